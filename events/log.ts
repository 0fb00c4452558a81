import type { KeyObject } from 'node:crypto';
import type Database from 'better-sqlite3';
import type { Hlc, PeerId, Position } from './brand.ts';
import { canonicalJson, eventPreimage } from './canonical.ts';
import { CATALOGUE } from './catalogue.ts';
import { type ChainHead, GENESIS_HASH, signTransaction } from './chain.ts';
import type { Clock, Random } from './clock.ts';
import { publicKeyObject, type Signer } from './ed25519.ts';
import type { AnyEvent, AnyNewEvent, Stream } from './envelope.ts';
import { ArcticError } from './errors.ts';
import { createHostClocks, ZERO_HLC } from './hlc.ts';
import { createIds, isPeerId, newEventId, newPeerId } from './ids.ts';
import { CHECKPOINTS_KEPT, createCheckpointReads } from './log-checkpoints.ts';
import type { AppendContext, Log, LogReader, PinnedChain, ReceiveOutcome, Snapshot } from './log-contract.ts';
import { type Draft, draftEvent } from './log-draft.ts';
import { LogError, logError } from './log-errors.ts';
import { chainKey } from './log-heads.ts';
import { lookUp } from './log-keys.ts';
import { lockLog } from './log-lock.ts';
import { chainTerms, createReads, vectorOf } from './log-read.ts';
import { examineBatch } from './log-receive.ts';
import { eventAsWritten, eventOf, rowOf } from './log-rows.ts';
import { openDatabase, openDatabaseReadOnly } from './log-schema.ts';
import { createStore } from './log-store.ts';
import { createSubscribers } from './log-subscribers.ts';
import { createRowQueries, type RowQueries } from './row-queries.ts';
import { expectSound, type Scope, startChecksPages } from './verify.ts';

export interface LogOptions {
  /** `$DATA_DIR/arctic.db`; created, with mode 0600, when it is not there. */
  readonly path: string;
  /** Id of this host. A new log without one makes its own; an existing one must agree. */
  readonly origin?: PeerId;
  /** What is verified before the log opens; default `tail`. */
  readonly verify?: Scope;
}

export interface LogDeps {
  readonly signer: Signer;
  readonly clock: Clock;
  readonly random: Random;
  /** Takes what a subscriber threw. The append stands and the other subscribers are called all the same. */
  readonly onError: (error: unknown) => void;
  /** How the database is opened; fault injection puts itself between. */
  readonly connect?: typeof openDatabase;
}

/** Most events of one append; a received transaction is held whole in memory, so there has to be a limit. */
const MAX_TRANSACTION = 10_000;
/** How long an append can be repeated under its key, ms. */
const IDEMPOTENCY_TTL_MS = 7 * 24 * 3_600_000;
const SNAPSHOTS_KEPT = 2;

/**
 * Opens the log of this host for writing. Throws LogError when it is in use, damaged, foreign, newer than this program,
 * or the operating system refuses; nothing is repaired.
 */
export function openLog(options: LogOptions, deps: LogDeps): Log {
  const { path } = options;
  const publicKey = Buffer.from(deps.signer.publicKey).toString('base64');
  const ids = createIds(deps);
  const lock = lockLog(path);
  const pages = startChecksPages(path);
  let db: Database.Database | undefined;
  try {
    db = (deps.connect ?? openDatabase)(path, () => ({
      origin: options.origin ?? newPeerId(ids),
      publicKey,
      createdAtMs: deps.clock.now(),
    }));
    const queries = createRowQueries(db, path);
    const origin = ownOrigin(queries, path);
    expectIdentity(queries, options, origin, publicKey);
    expectSound(queries, path, options.verify ?? 'tail', pages);
    return createLog({ db, queries, path, origin, publicKey, ids, lock }, deps);
  } catch (error) {
    db?.close();
    lock.release();
    throw logError(path, 'open', error);
  }
}

/** Opens a log for reading: a live agent's, or a copy. `verify` defaults to `none`, for this is also how damage is looked at. */
export function openLogReader(options: { readonly path: string; readonly verify?: Scope }): LogReader {
  const { path } = options;
  const db = openDatabaseReadOnly(path);
  try {
    const queries = createRowQueries(db, path);
    const origin = ownOrigin(queries, path);
    // Of one moment, while an agent may be writing.
    db.transaction(() => expectSound(queries, path, options.verify ?? 'none'))();
    return {
      origin,
      get head() {
        return headPosition(queries);
      },
      ...createReads(queries, path),
      close: () => db.close(),
    };
  } catch (error) {
    db.close();
    throw logError(path, 'read', error);
  }
}

interface Opened {
  readonly db: Database.Database;
  readonly queries: RowQueries;
  readonly path: string;
  readonly origin: PeerId;
  readonly publicKey: string;
  readonly ids: ReturnType<typeof createIds>;
  readonly lock: { release(): void };
}

function createLog(opened: Opened, deps: LogDeps): Log {
  const { db, queries, path, origin, ids } = opened;
  const reads = createReads(queries, path);
  const subscribers = createSubscribers(reads.pages, deps.onError);
  const putKey = db.prepare(
    'INSERT INTO idempotency (key, first_position, last_position, created_at_ms) VALUES (?, ?, ?, ?)',
  );
  const forgetKeys = db.prepare('DELETE FROM idempotency WHERE created_at_ms < ?');
  const putMeta = db.prepare(
    'INSERT INTO meta (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value',
  );
  const putSnapshot = db.prepare(
    'INSERT OR REPLACE INTO snapshots (name, position, digest, fold_version, state) VALUES (?, ?, ?, ?, ?)',
  );
  const pruneSnapshots = db.prepare(
    'DELETE FROM snapshots WHERE name = ? AND position NOT IN ' +
      `(SELECT position FROM snapshots WHERE name = ? ORDER BY position DESC LIMIT ${SNAPSHOTS_KEPT})`,
  );

  const checkpointReads = createCheckpointReads(queries, path);
  const putCheckpoint = db.prepare(
    'INSERT OR REPLACE INTO checkpoints (origin, size, note, frontier) VALUES (?, ?, ?, ?)',
  );
  const pruneCheckpoints = db.prepare(
    'DELETE FROM checkpoints WHERE origin = ? AND size NOT IN ' +
      `(SELECT size FROM checkpoints WHERE origin = ? ORDER BY size DESC LIMIT ${CHECKPOINTS_KEPT})`,
  );

  let closed = false;
  const expectOpen = (): void => {
    if (closed)
      throw new ArcticError('UNAVAILABLE', `the event log ${path} is closed; the agent is stopping`);
  };
  const store = createStore(db, queries, path);
  const durably = (run: () => void): void => {
    expectOpen();
    store.durably(run);
  };
  /** The head of a chain; before its first event one that leads to it. */
  const headOf = (of: PeerId, stream: Stream, publicKey: string): PinnedChain =>
    store.heads.get(chainKey(of, stream)) ?? {
      origin: of,
      stream,
      seq: 0,
      hash: GENESIS_HASH,
      hlc: ZERO_HLC,
      publicKey,
    };
  const newestOf = (stream: Stream): Hlc =>
    newest([...store.heads.values()].flatMap((head) => (head.stream === stream ? [head.hlc] : [])));
  const clocks = createHostClocks({ config: newestOf('config'), local: newestOf('local') }, deps);
  const hlc = clocks.config;
  const keys = new Map<string, KeyObject>();

  const recall = (idempotencyKey: string): readonly AnyEvent[] | undefined => {
    const span = queries.get<[Position, Position]>(
      'SELECT first_position, last_position FROM idempotency WHERE key = ?',
      idempotencyKey,
    );
    return span && reads.read({ after: (span[0] - 1) as Position, until: span[1] });
  };

  const repeated = (
    events: readonly AnyNewEvent[],
    context: AppendContext,
  ): readonly AnyEvent[] | undefined => {
    if (context.idempotencyKey !== undefined) {
      const earlier = recall(context.idempotencyKey);
      if (earlier !== undefined) return earlier;
    }
    if (events.every((event) => event.id === undefined)) return undefined;
    const known = events
      .flatMap(({ id }) => (id === undefined ? [] : [id]))
      .flatMap((id) =>
        lookUp(queries, {
          terms: [
            ['id', '= ?', id],
            ['origin', '= ?', origin],
          ],
          limit: 1,
        }),
      )
      .map(eventOf);
    if (known.length === 0) return undefined;
    const same = known.length === events.length && known.every((event, i) => event.type === events[i]?.type);
    if (same) return known;
    throw new ArcticError(
      'CONFLICT',
      `event ${known[0]?.id} is in the log already, as part of another change`,
    );
  };

  const expectVersion = (context: AppendContext): void => {
    if (context.expectedVersion === undefined) return;
    const { entity, version } = context.expectedVersion;
    const actual = reads.entityVersion(entity);
    if (actual === version) return;
    throw new ArcticError(
      'CONFLICT',
      `${entity} is at version ${actual}, not ${version}: it changed since it was read. Read it again and repeat the change`,
    );
  };

  return {
    origin,
    get head() {
      return store.position as Position;
    },
    ...reads,
    chains: () => [...store.heads.values()].sort(byChain),
    versionVector: () => vectorOf(store.heads.values()),

    recall,
    append(events, context) {
      expectOpen();
      if (events.length === 0) return [];
      if (events.length > MAX_TRANSACTION) {
        throw new ArcticError(
          'TOO_LARGE',
          `one change may have ${MAX_TRANSACTION} events, not ${events.length}; split it`,
        );
      }
      const earlier = repeated(events, context);
      if (earlier !== undefined) return earlier;
      expectVersion(context);

      const now = deps.clock.now();
      const staged = new Map<Stream, Draft>();
      const drafts: Draft[] = [];
      for (const event of events) {
        const { stream } = CATALOGUE[event.type];
        const draft = draftEvent(event, context, {
          id: event.id ?? newEventId(ids),
          position: (store.position + 1 + drafts.length) as Position,
          hlc: clocks.tick(stream),
          head: staged.get(stream)?.head ?? headOf(origin, stream, opened.publicKey),
        });
        drafts.push(draft);
        staged.set(stream, draft);
      }
      for (const { event, head } of staged.values())
        event.signature = signTransaction(deps.signer, head.hash);
      const appended = drafts.map((draft) => draft.event);
      const { idempotencyKey } = context;
      store.put(
        appended,
        drafts.map((draft) => rowOf(draft.event, draft.body, now)),
        [...staged.values()].map(({ head }) => head),
        idempotencyKey === undefined
          ? undefined
          : () => {
              forgetKeys.run(now - IDEMPOTENCY_TTL_MS);
              putKey.run(idempotencyKey, appended[0]?.position, appended.at(-1)?.position, now);
            },
      );
      subscribers.publish(appended);
      return appended;
    },

    receive(from, publicKey, batch) {
      expectOpen();
      const pinned = Buffer.from(publicKey).toString('base64');
      const head = headOf(from, 'config', from === origin ? opened.publicKey : pinned);
      const refuse = (reason: string): ReceiveOutcome => ({
        kind: 'refused',
        seq: batch[0]?.seq ?? 0,
        reason,
      });
      if (head.publicKey !== pinned)
        return refuse(`the key offered for ${from} is not the one its earlier events are signed with`);
      let key = keys.get(pinned);
      if (key === undefined) {
        try {
          key = publicKeyObject(publicKey);
        } catch {
          return refuse(`the public key of ${from} is not an acceptable Ed25519 key`);
        }
        keys.set(pinned, key);
      }
      const held = (seq: number): AnyEvent | undefined => {
        const [row] = lookUp(queries, {
          terms: chainTerms(from, 'config', '= ?', seq),
          order: 'seq',
          limit: 1,
        });
        return row && eventAsWritten(row);
      };
      const outcome = examineBatch(head, key, batch, { hlc, held });
      if (outcome.kind !== 'fresh') return outcome;

      const now = deps.clock.now();
      const rows = outcome.events.map((event, index) =>
        rowOf(
          { ...event, position: (store.position + 1 + index) as Position },
          eventPreimage(event, canonicalJson(event.data)),
          now,
        ),
      );
      const events = rows.map(eventOf);
      const last = events.at(-1);
      if (last !== undefined) {
        const { seq, hash } = last;
        store.put(events, rows, [
          { origin: from, stream: 'config', seq, hash, hlc: last.hlc, publicKey: pinned },
        ]);
        hlc.observe(last.hlc);
        subscribers.publish(events);
      }
      return { kind: 'appended', events, duplicates: outcome.duplicates, ignored: outcome.ignored };
    },

    subscribe: (listener) => subscribers.add(store.position as Position, listener),
    subscribeFrom: (after, listener) => subscribers.follow(after, listener),
    meta: {
      get: (key) => queries.get<[string]>('SELECT value FROM meta WHERE key = ?', key)?.[0],
      set: (key, value) => durably(() => void putMeta.run(key, value)),
    },
    snapshots: {
      latest: reads.latestSnapshot,
      put: (name: string, row: Snapshot) =>
        durably(() => {
          putSnapshot.run(name, row.position, row.digest, row.foldVersion, row.state);
          pruneSnapshots.run(name, name);
        }),
    },
    checkpoints: {
      ...checkpointReads,
      put: ({ origin: of, size, note, frontier }) =>
        durably(() => {
          putCheckpoint.run(of, size, note, frontier);
          pruneCheckpoints.run(of, of);
        }),
    },
    close() {
      if (closed) return;
      closed = true;
      subscribers.clear();
      store.settle();
      db.close();
      opened.lock.release();
    },
  };
}

/** Fixed width, so the text order is the order of time. */
const newest = (times: readonly Hlc[]): Hlc => [...times].sort().at(-1) ?? ZERO_HLC;

const byChain = (a: ChainHead, b: ChainHead): number =>
  chainKey(a.origin, a.stream) < chainKey(b.origin, b.stream) ? -1 : 1;

function ownOrigin(queries: RowQueries, path: string): PeerId {
  const origin = queries.get<[string]>("SELECT value FROM meta WHERE key = 'peer_id'")?.[0];
  if (isPeerId(origin)) return origin;
  throw new LogError(
    'damaged',
    path,
    `the event log ${path} does not say whose it is; restore a backup with \`arctic restore FILE\``,
  );
}

/** A log signed with one key and continued with another would be refused by every peer; better to stop here. */
function expectIdentity(queries: RowQueries, options: LogOptions, origin: PeerId, publicKey: string): void {
  const { path } = options;
  if (options.origin !== undefined && options.origin !== origin) {
    throw new LogError(
      'foreign',
      path,
      `the event log ${path} belongs to ${origin}, not to ${options.origin}`,
    );
  }
  const stored = queries.get<[string]>("SELECT value FROM meta WHERE key = 'public_key'")?.[0];
  if (stored === publicKey) return;
  throw new LogError(
    'foreign',
    path,
    `the identity key does not belong to the event log ${path} (${origin}): one of them was replaced. ` +
      'Put back the peer.key that was used with it, or remove the database and bootstrap again',
  );
}

const headPosition = (queries: RowQueries): Position =>
  (queries.get<[number | null]>('SELECT max(position) FROM events')?.[0] ?? 0) as Position;
