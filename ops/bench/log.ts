/**
 * The event log against bare SQLite and emmett. What is compared is measured in turn, in
 * short blocks, so that what else the machine does falls on all alike.
 *
 *   node --import=tsx ops/bench/log.ts [--events 1000000] [--rounds 5] [--dir DIR] [--emmett DIR] [--no-emmett]
 *
 * `--dir` must be on the kind of disk that is to be measured; `--emmett` keeps that package for the next run.
 */
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { loadavg, tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import Database from 'better-sqlite3';
import { GENESIS_HASH, signTransaction } from '../../events/chain.ts';
import { systemClock, systemRandom } from '../../events/clock.ts';
import { createSigner } from '../../events/ed25519.ts';
import type { AnyNewEvent } from '../../events/envelope.ts';
import { openLog, openLogReader } from '../../events/log.ts';
import type { AppendContext, Log } from '../../events/log-contract.ts';
import { verifyLog } from '../../events/verify.ts';
import { foldAll } from '../../projections/replay.ts';
import { createProjections } from '../../projections/runner.ts';
import { type BareRow, openBare, openEmmett } from './log-peers.ts';
import { describeMachine } from './machine.ts';
import { spread } from './statistics.ts';

const { values: given } = parseArgs({
  options: {
    events: { type: 'string', default: '1000000' },
    rounds: { type: 'string', default: '5' },
    dir: { type: 'string', default: tmpdir() },
    emmett: { type: 'string' },
    'no-emmett': { type: 'boolean', default: false },
  },
});
const EVENTS = Number(given.events);
const ROUNDS = Number(given.rounds);
/** Appends a round. */
const SINGLES = 400;
/** Operations of one kind before it is the next one's turn. */
const BLOCK = 100;
const BATCH = 100;
const BATCHES = 20;
/** Events both begin with: enough that their -wal files have gone round, as those of an agent that has run for a while. */
const FIRST = 20_000;
/** Of `route.added` and `route.updated` as `change` makes them, between the two. */
const BODY_CHARACTERS = 600;
/** Rows the folded view ends with. */
const ROUTES = 10_000;

const OPERATOR: AppendContext = {
  actor: { kind: 'client', id: 'cli_01JD0000000000000000000000', address: '192.0.2.7' },
  correlationId: 'cor_01JD0000000000000000000000',
};
const SERVICE = 'svc_01JD0000000000000000000000';

/** The `n`th change of a cluster's life: first the routes come, then they change. */
function change(n: number): AnyNewEvent {
  const number = (n % ROUTES) + 1;
  const entity = `rte_${String(number).padStart(26, '0')}`;
  const priority = n % 60_000;
  if (n >= ROUTES) return { type: 'route.updated', entity, data: { service_id: SERVICE as never, priority } };
  return {
    type: 'route.added',
    entity,
    data: {
      service_id: SERVICE as never,
      number,
      priority,
      source_cidr: `10.${(number >> 8) & 255}.${number & 255}.0/24`,
      dest_cidr: '192.168.100.0/24',
    },
  };
}

const signer = createSigner(new Uint8Array(32).fill(7));

const open = (path: string, verify: 'tail' | 'none' = 'tail'): Log =>
  openLog(
    { path, verify },
    {
      signer,
      clock: systemClock,
      random: systemRandom,
      onError: (error) => {
        throw error;
      },
    },
  );

/** As long as what the log writes for `change`, column by column. */
const bareRow = (n: number): BareRow => [
  1_795_000_000_000 + n,
  3_000_000_000 + n,
  String(n).padEnd(BODY_CHARACTERS, 'x'),
  String(n).padEnd(64, '0'),
  String(n).padEnd(88, 'A'),
];

/**
 * Seconds that each of several works took, in turn with the others: in blocks, so that each runs on warm caches as it would
 * alone, and short ones, so that what else the machine does falls on all alike.
 */
async function inTurn<K extends string>(
  repeats: number,
  works: Readonly<Record<K, (n: number) => void | Promise<void>>>,
): Promise<Record<K, number>> {
  const entries = Object.entries(works) as [K, (n: number) => void | Promise<void>][];
  const seconds = Object.fromEntries(entries.map(([name]) => [name, 0])) as Record<K, number>;
  for (let from = 0; from < repeats; from += BLOCK) {
    for (const [name, work] of entries) {
      const started = performance.now();
      for (let n = from; n < Math.min(from + BLOCK, repeats); n += 1) await work(n);
      seconds[name] += (performance.now() - started) / 1_000;
    }
  }
  return seconds;
}

const rate = (perSecond: readonly number[]): string => `${spread(perSecond, 0)}/s`;
/** Ratios of one round to the same round of another. */
const over = (these: readonly number[], those: readonly number[], digits: number): string =>
  spread(
    these.map((one, i) => one / (those[i] ?? Number.NaN)),
    digits,
  );
const print = (label: string, text: string): void => console.log(`${label.padEnd(34)} ${text}`);

async function timed<T>(run: () => T | Promise<T>): Promise<readonly [seconds: number, result: T]> {
  const from = performance.now();
  const result = await run();
  return [(performance.now() - from) / 1_000, result];
}

mkdirSync(given.dir, { recursive: true });
const directory = mkdtempSync(join(given.dir, 'arctic-bench-log-'));
const at = (name: string): string => join(directory, name);
try {
  console.log(describeMachine());
  const [sqlite] = new Database(':memory:').prepare('SELECT sqlite_version()').raw().get() as [string];
  console.log(
    `SQLite ${sqlite}, ${directory}, load ${loadavg()
      .map((one) => one.toFixed(1))
      .join(' ')}`,
  );
  const emmett = given['no-emmett']
    ? 'not asked for'
    : await openEmmett(given.emmett ?? at('emmett'), at('emmett.db'));
  print('emmett-sqlite', typeof emmett === 'string' ? `no peer in this run: ${emmett}` : emmett.version);

  const log = open(at('arctic.db'));
  const bare = openBare(at('bare.db'));
  let written = 0;
  const next = (count: number): AnyNewEvent[] =>
    Array.from({ length: count }, () => {
      written += 1;
      return change(written - 1);
    });

  for (let n = 0; n < FIRST; n += BATCH) {
    log.append(next(BATCH), OPERATOR);
    bare.insertMany(Array.from({ length: BATCH }, (_, i) => bareRow(n + i)));
  }

  // Single durable appends.
  const single = {
    arctic: [] as number[],
    bare: [] as number[],
    signed: [] as number[],
    emmett: [] as number[],
  };
  for (let round = -1; round < ROUNDS; round += 1) {
    const seconds = await inTurn(SINGLES, {
      arctic: () => void log.append(next(1), OPERATOR),
      bare: (n) => bare.insert(bareRow(n)),
      signed: (n) => {
        signTransaction(signer, GENESIS_HASH);
        bare.insert(bareRow(n));
      },
      emmett: (n) =>
        typeof emmett === 'string' ? undefined : emmett.append(`route-${round}-${n}`, change(n).data),
    });
    // The first round warms up.
    if (round < 0) continue;
    single.arctic.push(SINGLES / seconds.arctic);
    single.bare.push(SINGLES / seconds.bare);
    single.signed.push(SINGLES / seconds.signed);
    single.emmett.push(SINGLES / seconds.emmett);
  }
  print('single append, arctic', rate(single.arctic));
  print('single insert, bare', rate(single.bare));
  // What no log of signed events can pass here: nothing made, checked, hashed or chained.
  print('bare insert and one signature', rate(single.signed));
  print('  arctic : bare', `${over(single.arctic, single.bare, 2)}   (bar 0.75)`);
  print(
    '  bare and signature : bare',
    `${over(single.signed, single.bare, 2)}   (the most 'arctic : bare' could be)`,
  );
  print('  arctic : bare and signature', over(single.arctic, single.signed, 2));
  if (typeof emmett !== 'string') {
    print('single append, emmett', `${rate(single.emmett)} (${emmett.busy} repeated after SQLITE_BUSY)`);
    print('  arctic : emmett', `${over(single.arctic, single.emmett, 1)}   (bar 10)`);
  }

  // A hundred a transaction.
  const many = { arctic: [] as number[], bare: [] as number[] };
  for (let round = -1; round < ROUNDS; round += 1) {
    const seconds = await inTurn(BATCHES, {
      arctic: () => void log.append(next(BATCH), OPERATOR),
      bare: () => bare.insertMany(Array.from({ length: BATCH }, (_, i) => bareRow(i))),
    });
    if (round < 0) continue;
    many.arctic.push((BATCHES * BATCH) / seconds.arctic);
    many.bare.push((BATCHES * BATCH) / seconds.bare);
  }
  print('100 a transaction, arctic', `${rate(many.arctic)}   (bar 9000, or 0.60 of bare)`);
  print('100 a transaction, bare', rate(many.bare));
  print('  arctic : bare', over(many.arctic, many.bare, 2));
  bare.close();

  // A long log.
  const [filling] = await timed(() => {
    while (written < EVENTS) log.append(next(Math.min(1_000, EVENTS - written)), OPERATOR);
  });
  print(`filled to ${EVENTS} events`, `${filling.toFixed(1)} s`);
  const empty = open(at('empty.db'));
  const against = { long: [] as number[], empty: [] as number[] };
  for (let round = -1; round < ROUNDS; round += 1) {
    const seconds = await inTurn(SINGLES, {
      long: () => void log.append(next(1), OPERATOR),
      empty: (n) => void empty.append([change(n)], OPERATOR),
    });
    if (round < 0) continue;
    against.long.push(SINGLES / seconds.long);
    against.empty.push(SINGLES / seconds.empty);
  }
  empty.close();
  print(`single append, ${EVENTS} in the log`, rate(against.long));
  print('single append, empty log', rate(against.empty));
  print('  long : empty', `${over(against.long, against.empty, 2)}   (bar 0.90)`);

  // Start.
  const projections = (source: Log) =>
    createProjections({ localPeer: source.origin }, { log: source, clock: systemClock });
  const first = projections(log);
  const [cold] = await timed(() => first.start());
  first.stop();
  log.close();
  print('start without a snapshot', `${cold.toFixed(2)} s (projections alone)`);
  const starts: number[] = [];
  for (let round = 0; round < ROUNDS; round += 1) {
    const [seconds, opened] = await timed(() => {
      const again = open(at('arctic.db'));
      const folded = projections(again);
      folded.start();
      return { again, folded };
    });
    starts.push(seconds);
    opened.folded.stop();
    opened.again.close();
  }
  print('start with a snapshot', `${spread(starts, 3)} s: open, check of the tail, views   (bar 2)`);

  // Replay: what SQLite and JSON.parse alone take, and the folded view.
  const reader = openLogReader({ path: at('arctic.db') });
  const raw = new Database(at('arctic.db'), { readonly: true });
  const page = raw
    .prepare('SELECT position, body FROM events WHERE position > ? ORDER BY position LIMIT 512')
    .raw();
  const replays: number[] = [];
  const parses: number[] = [];
  for (let round = 0; round < Math.max(3, Math.ceil(ROUNDS / 2)); round += 1) {
    const [folding, events] = await timed(() => foldAll(reader, (_fold, _position, folded) => folded));
    replays.push(events / folding);
    const [parsing, rows] = await timed(() => {
      let count = 0;
      for (let after = 0; ; ) {
        const found = page.all(after) as [number, string][];
        for (const row of found) JSON.parse(row[1]);
        count += found.length;
        const last = found.at(-1);
        if (last === undefined) return count;
        after = last[0];
      }
    });
    parses.push(rows / parsing);
  }
  raw.close();
  reader.close();
  print('replay, read to folded view', `${rate(replays)}   (bar 200000)`);
  print('  read and JSON.parse alone', rate(parses));

  // Verification.
  let most = 0;
  const before = process.memoryUsage.rss();
  const [verifying, verified] = await timed(() =>
    verifyLog({
      path: at('arctic.db'),
      onProgress: () => {
        most = Math.max(most, process.memoryUsage.rss());
      },
    }),
  );
  if (verified.fault !== undefined) throw new Error(`the log does not verify: ${verified.fault.reason}`);
  print(
    'verify, full',
    `${Math.round(verified.events / verifying)}/s (${verified.transactions} signatures), ` +
      `memory +${Math.max(0, Math.round((most - before) / 2 ** 20))} MiB`,
  );
} finally {
  rmSync(directory, { recursive: true, force: true });
}
