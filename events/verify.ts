import type { KeyObject } from 'node:crypto';
import { statSync } from 'node:fs';
import type { EventId, PeerId } from './brand.ts';
import { type ChainHead, GENESIS_HASH, hashPreimage, linkFault, verifyTransaction } from './chain.ts';
import { publicKeyObject } from './ed25519.ts';
import type { AnyEvent, Stream } from './envelope.ts';
import { ZERO_HLC } from './hlc.ts';
import { createCheckpointReads } from './log-checkpoints.ts';
import type { StoredCheckpoint } from './log-contract.ts';
import { damaged, logError } from './log-errors.ts';
import { chainKey, readHeads } from './log-heads.ts';
import { createKeyChecks, type KeyChecks, keysEnd, lookUp } from './log-keys.ts';
import { chainTerms, PAGE_SIZE } from './log-read.ts';
import { COLUMNS, type EventRow, eventAsWritten, isIntact } from './log-rows.ts';
import { openDatabaseReadOnly } from './log-schema.ts';
import { EMPTY_FRONTIER, extend, type Frontier, rootOf } from './merkle.ts';
import { createRowQueries, type RowQueries } from './row-queries.ts';
import type { LogFault, Verification } from './verification.ts';
import { noteFault } from './witness.ts';

export type { LogFault, Verification };

/**
 * `full`: the file's own structure and every event. `tail`: the newest thousand events and the signature at the end of
 * every chain, which by the links covers all before it; at a start also the pages of the file, up to a size. `none`: nothing.
 */
export type Scope = 'full' | 'tail' | 'none';

const TAIL_EVENTS = 1_000;

/** Verifies a log, a running agent's too, in constant memory. Needs neither the agent nor any key: keys are pinned in the log. */
export function verifyLog(options: {
  readonly path: string;
  /** Called after every page with the last position verified. */
  readonly onProgress?: (position: number) => void;
}): Verification {
  const db = openDatabaseReadOnly(options.path);
  try {
    // Of one moment: beside a running agent the log grows meanwhile, and its chains would end elsewhere than they began to.
    db.exec('BEGIN');
    return verifyAll(createRowQueries(db, options.path), options.path, options.onProgress);
  } catch (error) {
    throw logError(options.path, 'read', error);
  } finally {
    db.close();
  }
}

/** Up to these sizes SQLite's check of pages belongs to a start, bytes: it takes about 1 ms of CPU for each MiB. */
const CHECKED_ALWAYS = 64 * 2 ** 20;
const CHECKED_AFTER_A_CRASH = 512 * 2 ** 20;

/** Whether a start checks the pages of the file too; ask before the file is opened, for that empties the -wal. */
export function startChecksPages(path: string): boolean {
  const sizeOf = (file: string): number => statSync(file, { throwIfNoEntry: false })?.size ?? 0;
  // Whoever closes the log last leaves none.
  const crashed = sizeOf(`${path}-wal`) > 0;
  return sizeOf(path) <= (crashed ? CHECKED_AFTER_A_CRASH : CHECKED_ALWAYS);
}

/** Throws a `damaged` LogError when the log does not verify in this scope. With `pages`, `tail` checks those of the file too. */
export function expectSound(queries: RowQueries, path: string, scope: Scope, pages = false): void {
  if (scope === 'none') return;
  const fault =
    scope === 'full'
      ? verifyAll(queries, path).fault
      : (verifyTail(queries, path) ?? (pages ? structureFault(queries, 'quick_check') : undefined));
  if (fault !== undefined) throw damaged(path, describeFault(fault), fault.position);
}

export const describeFault = (fault: LogFault): string =>
  fault.id === undefined
    ? fault.reason
    : `event ${fault.id} (${fault.stream} ${fault.seq} of ${fault.origin}): ${fault.reason}`;

type Chains = ReadonlyMap<
  string,
  ChainHead & { readonly publicKey: string; readonly key: KeyObject | undefined }
>;

function verifyAll(queries: RowQueries, path: string, onProgress?: (position: number) => void): Verification {
  const pinned = readChains(queries);
  const chains = [...pinned.values()].map(({ key: _key, ...chain }) => chain);
  const seen = new Map<string, Seen>();
  const trees = createTrees(createCheckpointReads(queries, path).all(), pinned);
  const keys = createKeyChecks(queries);
  let events = 0;
  let transactions = 0;
  const result = (fault: LogFault | undefined): Verification => ({
    fault,
    events,
    transactions,
    chains,
    checkpoints: trees.checked(),
    keyConflicts: fault === undefined ? findKeyConflicts(queries, pinned) : [],
  });

  for (let after = 0, size = PAGE_SIZE; ; ) {
    let rows: EventRow[];
    try {
      rows = queries.all<EventRow>(
        `SELECT ${COLUMNS} FROM events WHERE position > ? ORDER BY position LIMIT ?`,
        after,
        size,
      );
    } catch (error) {
      if (size === 1) return result(fileFault(unreadable(error), after + 1));
      // Somewhere in this page is what cannot be read; one by one it is found.
      size = 1;
      continue;
    }
    keys.page(after, rows.length);
    for (const row of rows) {
      if (row[0] !== after + 1)
        return result(fileFault(`the event at position ${after + 1} is missing`, after + 1));
      const fault = rowFault(row, seen, { pinned, signatures: true, before: emptyChain, trees, keys });
      if (fault !== undefined) return result(fault);
      events += 1;
      if (row[5] !== null) transactions += 1;
      after = row[0];
    }
    onProgress?.(after);
    if (rows.length < size) break;
  }
  return result(
    endFault(seen, pinned) ?? keysFault(queries, events) ?? trees.cutOff(seen) ?? structureFault(queries),
  );
}

/** SQLite's own check of pages and constraints, and of indexes if not quick; says nothing of which event, so it comes last. */
function structureFault(
  queries: RowQueries,
  check: 'integrity_check' | 'quick_check' = 'integrity_check',
): LogFault | undefined {
  try {
    const found = queries.all<[string]>(`PRAGMA ${check}(1)`)[0]?.[0];
    return found === 'ok' ? undefined : fileFault(`the database file is corrupt: ${found}`);
  } catch (error) {
    return fileFault(unreadable(error));
  }
}

const unreadable = (error: unknown): string => {
  const cause = error instanceof Error && error.cause instanceof Error ? error.cause : error;
  return `it cannot be read: ${cause instanceof Error ? cause.message : String(cause)}`;
};

/** Compares the trees of origins with the checkpoints that were signed of them, as the events pass by. */
interface Trees {
  /** The event that a checkpoint ends with has passed: what is wrong with it. */
  fault(event: AnyEvent): string | undefined;
  /** Checkpoints that cover events which are not there. */
  cutOff(seen: ReadonlyMap<string, { readonly seq: number }>): LogFault | undefined;
  checked(): number;
}

/** Hashes collected before they are put into a tree. */
const TREE_BATCH = 512;

function createTrees(stored: readonly StoredCheckpoint[], pinned: Chains): Trees {
  const growing = new Map<PeerId, { tree: Frontier; fresh: Uint8Array[]; due: StoredCheckpoint[] }>();
  for (const checkpoint of stored) {
    const at = growing.get(checkpoint.origin) ?? { tree: EMPTY_FRONTIER, fresh: [], due: [] };
    at.due.push(checkpoint);
    growing.set(checkpoint.origin, at);
  }
  const keyFor = keysOf(pinned);
  let checked = 0;
  return {
    fault(event) {
      const at = event.stream === 'config' ? growing.get(event.origin) : undefined;
      const next = at?.due[0];
      if (at === undefined || next === undefined) return undefined;
      at.fresh.push(Buffer.from(event.hash, 'hex'));
      const complete = event.seq === next.size;
      if (!complete && at.fresh.length < TREE_BATCH) return undefined;
      at.tree = extend(at.tree, at.fresh);
      at.fresh = [];
      if (!complete) return undefined;
      at.due.shift();
      checked += 1;
      const fault = noteFault(next, rootOf(at.tree), keyFor);
      return fault && `the checkpoint over the first ${next.size} events of ${next.origin}: ${fault}`;
    },
    cutOff(seen) {
      const left = [...growing.values()].flatMap(({ due }) => due);
      return cutOffFault(left, (origin) => seen.get(`${origin}/config`)?.seq ?? 0);
    },
    checked: () => checked,
  };
}

const keysOf =
  (pinned: Chains) =>
  (peer: PeerId): Uint8Array | undefined => {
    const chain = pinned.get(`${peer}/config`) ?? pinned.get(`${peer}/local`);
    return chain && Buffer.from(chain.publicKey, 'base64');
  };

function cutOffFault(
  checkpoints: readonly StoredCheckpoint[],
  held: (origin: PeerId) => number,
): LogFault | undefined {
  const longer = checkpoints.find(({ origin, size }) => size > held(origin));
  return (
    longer &&
    fileFault(
      `a signed checkpoint covers ${longer.size} config events of ${longer.origin}, and the log ends with event ` +
        `${held(longer.origin)}: its end was cut off`,
    )
  );
}

function verifyTail(queries: RowQueries, path: string): LogFault | undefined {
  const pinned = readChains(queries);
  const rows = queries
    .all<EventRow>(`SELECT ${COLUMNS} FROM events ORDER BY position DESC LIMIT ?`, TAIL_EVENTS)
    .reverse();
  const seen = new Map<string, Seen>();
  const before = (event: AnyEvent): Seen => eventBefore(queries, event);
  let due = rows[0]?.[0] ?? 1;
  if (rows.length < TAIL_EVENTS && due !== 1) return fileFault('the event at position 1 is missing', 1);
  const ends = new Map<string, EventRow>();
  for (const row of rows) {
    if (row[0] !== due) return fileFault(`the event at position ${due} is missing`, due);
    due += 1;
    const fault = rowFault(row, seen, { pinned, signatures: false, before });
    if (fault !== undefined) return fault;
    const { origin, stream } = eventAsWritten(row);
    ends.set(chainKey(origin, stream), row);
  }
  for (const [key, chain] of pinned) {
    const row = ends.get(key) ?? newestOf(queries, chain);
    if (row === undefined) return fileFault(`the ${chain.stream} events of ${chain.origin} are missing`);
    const end = new Map<string, Seen>();
    const fault = rowFault(row, end, { pinned, signatures: true, before });
    if (fault !== undefined) return fault;
    seen.set(key, end.get(key) ?? emptyChain(chain));
  }
  return (
    endFault(seen, pinned) ??
    keysFault(queries, rows.at(-1)?.[0] ?? 0) ??
    checkpointFault(queries, path, seen, pinned)
  );
}

/** Events appended below entries of none would never get any. */
const keysFault = (queries: RowQueries, newest: number): LogFault | undefined =>
  keysEnd(queries) > newest
    ? fileFault(`the keys events are looked up by reach past the newest event, ${newest}`)
    : undefined;

const newestOf = (queries: RowQueries, { origin, stream }: ChainHead): EventRow | undefined =>
  lookUp(queries, {
    terms: chainTerms(origin, stream, '<= ?', Number.MAX_SAFE_INTEGER),
    order: 'seq',
    reverse: true,
    limit: 1,
  })[0];

/** The checkpoints' own signatures, and that none reaches past the end. Their roots need every event. */
function checkpointFault(
  queries: RowQueries,
  path: string,
  seen: ReadonlyMap<string, Seen>,
  pinned: Chains,
): LogFault | undefined {
  const stored = createCheckpointReads(queries, path).all();
  const cut = cutOffFault(stored, (origin) => seen.get(`${origin}/config`)?.seq ?? 0);
  if (cut !== undefined) return cut;
  for (const checkpoint of stored) {
    const fault = noteFault(checkpoint, undefined, keysOf(pinned));
    if (fault !== undefined)
      return fileFault(
        `the checkpoint over the first ${checkpoint.size} events of ${checkpoint.origin}: ${fault}`,
      );
  }
  return undefined;
}

type Seen = ChainHead & {
  readonly signed: boolean;
  readonly id: EventId | undefined;
  readonly position: number;
};

const seenOf = (event: AnyEvent): Seen => ({
  origin: event.origin,
  stream: event.stream,
  seq: event.seq,
  hash: event.hash,
  hlc: event.hlc,
  signed: event.signature !== null,
  id: event.id,
  position: event.position,
});

interface Checks {
  readonly pinned: Chains;
  readonly signatures: boolean;
  /** What an event follows when no earlier one of its chain has been seen. */
  readonly before: (event: AnyEvent) => Seen;
  readonly trees?: Trees;
  readonly keys?: KeyChecks;
}

/** Checks one row against the end of its chain and moves that end. */
function rowFault(row: EventRow, seen: Map<string, Seen>, checks: Checks): LogFault | undefined {
  let event: AnyEvent;
  try {
    event = eventAsWritten(row);
  } catch {
    return fileFault('its content is not JSON', row[0]);
  }
  const at = (reason: string): LogFault => ({ ...placeOf(event), reason });
  if (!isIntact(row)) return at('the stored row does not match its checksum');
  const key = `${event.origin}/${event.stream}`;
  const chain = checks.pinned.get(key);
  if (chain === undefined) return at('its chain is not known to this log');
  const link = linkFault(seen.get(key) ?? checks.before(event), event);
  if (link !== undefined) return at(link);
  if (hashPreimage(row[3]) !== event.hash) return at('its hash does not match its content');
  if (event.signature !== null && checks.signatures) {
    if (chain.key === undefined) return at('the key pinned for its origin is not an acceptable Ed25519 key');
    if (!verifyTransaction(chain.key, event.hash, event.signature))
      return at("its signature is not the origin's");
  }
  seen.set(key, seenOf(event));
  const fault = checks.keys?.fault(event) ?? checks.trees?.fault(event);
  return fault === undefined ? undefined : at(fault);
}

/** Every chain must end where the log says it ends, with a signature. */
function endFault(seen: ReadonlyMap<string, Seen>, pinned: Chains): LogFault | undefined {
  for (const [key, chain] of pinned) {
    const last = seen.get(key);
    if (last === undefined || last.seq !== chain.seq || last.hash !== chain.hash || last.hlc !== chain.hlc) {
      const have = last === undefined ? 'no event' : `event ${last.seq}`;
      return fileFault(
        `the ${chain.stream} chain of ${chain.origin} ends with ${have} where event ${chain.seq} is due`,
      );
    }
    if (!last.signed) {
      const { id, position, origin, stream, seq } = last;
      return { id, position, origin, stream, seq, reason: 'it ends its chain without a signature' };
    }
  }
  return undefined;
}

const placeOf = ({ id, position, origin, stream, seq }: AnyEvent): Omit<LogFault, 'reason'> => ({
  position,
  id,
  origin,
  stream,
  seq,
});

const fileFault = (reason: string, position?: number): LogFault => ({
  position,
  id: undefined,
  origin: undefined,
  stream: undefined,
  seq: undefined,
  reason,
});

const emptyChain = ({ origin, stream }: { readonly origin: PeerId; readonly stream: Stream }): Seen => ({
  origin,
  stream,
  seq: 0,
  hash: GENESIS_HASH,
  hlc: ZERO_HLC,
  signed: true,
  id: undefined,
  position: 0,
});

function eventBefore(queries: RowQueries, event: AnyEvent): Seen {
  const terms = chainTerms(event.origin, event.stream, '= ?', event.seq - 1);
  const [row] = lookUp(queries, { terms, order: 'seq', limit: 1 });
  return row === undefined ? emptyChain(event) : seenOf(eventAsWritten(row));
}

const readChains = (queries: RowQueries): Chains =>
  new Map(
    readHeads(queries).map((chain) => [
      chainKey(chain.origin, chain.stream),
      { ...chain, key: acceptableKey(chain.publicKey) },
    ]),
  );

function acceptableKey(base64: string): KeyObject | undefined {
  try {
    return publicKeyObject(Buffer.from(base64, 'base64'));
  } catch {
    return undefined;
  }
}

function findKeyConflicts(queries: RowQueries, pinned: Chains): Verification['keyConflicts'] {
  const types = JSON.stringify(['peer.admitted', 'peer.registered']);
  const rows = lookUp(queries, {
    terms: [['type', 'IN (SELECT value FROM json_each(?))', types]],
    limit: Number.MAX_SAFE_INTEGER,
  });
  return rows.flatMap((row) => {
    const position = row[0];
    const { peer_id: peerId, public_key: publicKey } = JSON.parse(row[3]).data as {
      readonly peer_id: PeerId;
      readonly public_key: string;
    };
    const chain = pinned.get(`${peerId}/config`) ?? pinned.get(`${peerId}/local`);
    return chain === undefined || chain.publicKey === publicKey ? [] : [{ peerId, position, publicKey }];
  });
}
