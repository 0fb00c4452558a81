import { copyFileSync, readFileSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import Database from 'better-sqlite3';
import t from 'tap';
import { linkFault } from '../../../events/chain.ts';
import { openLogReader } from '../../../events/log.ts';
import { LogError } from '../../../events/log-errors.ts';
import { startChecksPages, verifyLog } from '../../../events/verify.ts';
import {
  agentStarted,
  keyOf,
  openHost,
  operator,
  overTheWire,
  routeAdded,
  seededRandom,
  temporaryDirectory,
} from './given-log.ts';

/** Two origins, both streams, 60 events; closed, so that all of it is in the one file. */
function madeLog(directory: string): string {
  const path = join(directory, 'arctic.db');
  const other = openHost({ path: join(directory, 'other.db'), n: 2 });
  for (let i = 0; i < 10; i += 1) other.append([routeAdded(100 + i), routeAdded(200 + i)], operator);
  const log = openHost({ path });
  for (let i = 1; i <= 20; i += 1) log.append([routeAdded(i), agentStarted], operator);
  log.receive(other.origin, keyOf(2), overTheWire(other.range(other.origin, 1, 100)));
  other.close();
  log.close();
  return path;
}

t.test('an event follows on one chain only: number, hash and clock', async (t) => {
  const log = openHost({ path: join(temporaryDirectory(t), 'chain.db') });
  const [first, second] = log.append([routeAdded(1), routeAdded(2)], operator);
  log.close();
  if (first === undefined || second === undefined) throw new Error('two were appended');
  t.equal(linkFault(first, second), undefined);
  t.match(linkFault(first, { ...second, origin: 'peer_other' as never }), /another chain/);
  t.match(linkFault(first, { ...second, seq: second.seq + 1 }), /sequence number/);
  t.match(linkFault(first, { ...second, prev_hash: second.hash }), /prev_hash/);
  t.match(linkFault(first, { ...second, hlc: first.hlc }), /clock is not after/);
});

t.test('a sound log verifies, in constant pages', async (t) => {
  const path = madeLog(temporaryDirectory(t));
  const progress: number[] = [];
  t.match(verifyLog({ path, onProgress: (position) => progress.push(position) }), {
    fault: undefined,
    events: 60,
    transactions: 50,
    chains: { length: 3 },
    keyConflicts: [],
  });
  t.same(progress, [60]);
});

t.test('a log that grows while it is verified is verified as it was', async (t) => {
  const path = join(temporaryDirectory(t), 'arctic.db');
  const log = openHost({ path });
  for (let i = 0; i < 30; i += 1)
    log.append(
      Array.from({ length: 20 }, (_, k) => routeAdded(i * 20 + k + 1)),
      operator,
    );
  const found = verifyLog({
    path,
    onProgress: () => {
      for (let i = 1; i <= 40; i += 1) log.append([routeAdded(10_000 + i), agentStarted], operator);
    },
  });
  t.match(found, { fault: undefined, events: 600, chains: { length: 1 } });
  log.close();
  t.equal(verifyLog({ path }).fault, undefined);
});

t.test('what an intruder with SQL does is found, with its position', async (t) => {
  const directory = temporaryDirectory(t);
  const path = madeLog(directory);
  const tampered = join(directory, 'tampered.db');
  const cases: readonly (readonly [string, number | undefined, RegExp])[] = [
    [
      "UPDATE events SET body = replace(body, 'priority\":100', 'priority\":101') WHERE position = 5",
      5,
      /checksum/,
    ],
    ['UPDATE events SET recorded_at_ms = 1 WHERE position = 6', 6, /checksum/],
    ['DELETE FROM events WHERE position = 7', 7, /missing/],
    ['DELETE FROM events WHERE position = 60', undefined, /ends with event 19 where event 20 is due/],
    ['DELETE FROM events', undefined, /ends with no event/],
    [
      'UPDATE events SET position = position + 1000 WHERE position = 8; UPDATE events SET position = 8 WHERE position = 9; UPDATE events SET position = 9 WHERE position = 1008',
      8,
      /checksum/,
    ],
    ['UPDATE chain_heads SET seq = 3', undefined, /ends with/],
    ["DELETE FROM chain_heads WHERE stream = 'local'", 2, /not known/],
    ['UPDATE events SET signature = NULL WHERE position = 60', 60, /checksum/],
  ];
  for (const [sql, position, reason] of cases) {
    copyFileSync(path, tampered);
    const db = new Database(tampered);
    db.pragma('foreign_keys = OFF');
    db.exec(`DROP TRIGGER events_no_update; DROP TRIGGER events_no_delete; ${sql}`);
    db.close();
    const { fault } = verifyLog({ path: tampered });
    t.match(fault, { position, reason }, sql);
    const told =
      position === undefined ? /arctic restore.*mv / : new RegExp(`at position ${position}: .*mv `);
    t.throws(
      () => openHost({ path: tampered }),
      { trouble: 'damaged', exit: 3, position, message: told },
      `${sql}: at start`,
    );
  }
});

t.test(
  'an intruder who also mends checksum and hash is stopped by the links and the signature',
  async (t) => {
    const directory = temporaryDirectory(t);
    const path = madeLog(directory);
    const { rowOf, COLUMNS, eventAsWritten } = await import('../../../events/log-rows.ts');
    const { hashPreimage } = await import('../../../events/chain.ts');
    for (const [position, faultAt, reason, mendsHash] of [
      [3, 5, /prev_hash/, true],
      [39, 39, /signature/, true],
      [41, 41, /hash does not match its content/, false],
    ] as const) {
      const tampered = join(directory, `mended-${position}.db`);
      copyFileSync(path, tampered);
      const db = new Database(tampered);
      const row = db
        .prepare(`SELECT ${COLUMNS} FROM events WHERE position = ?`)
        .raw()
        .get(position) as Parameters<typeof eventAsWritten>[0];
      const body = row[3].replace('"priority":100', '"priority":7');
      t.not(body, row[3]);
      const hash = mendsHash ? hashPreimage(body) : row[4];
      // An inner event is left unsigned, as if it had been part of a longer transaction.
      const signature = position === 3 ? null : row[5];
      const mended = rowOf({ ...eventAsWritten(row), hash, signature }, body, row[1]);
      db.exec('DROP TRIGGER events_no_update');
      db.prepare('UPDATE events SET checksum = ?, body = ?, hash = ?, signature = ? WHERE position = ?').run(
        mended[2],
        body,
        hash,
        signature,
        position,
      );
      db.prepare('UPDATE chain_heads SET hash = ? WHERE hash = ?').run(hash, row[4]);
      db.close();
      t.match(verifyLog({ path: tampered }).fault, { position: faultAt, reason });
      t.throws(() => openHost({ path: tampered }), {
        name: 'LogError',
        trouble: 'damaged',
        position: faultAt,
      });
    }
  },
);

t.test('a bit flipped anywhere is reported or harmless; never another event in silence', async (t) => {
  const directory = temporaryDirectory(t);
  const path = madeLog(directory);
  const original = readFileSync(path);
  const whole = JSON.stringify(openEvents(path));
  const random = seededRandom(42);
  const flipped = join(directory, 'flipped.db');
  let reported = 0;
  let harmless = 0;
  for (let i = 0; i < 300; i += 1) {
    const copy = Buffer.from(original);
    const at = Math.floor(random.fraction() * copy.length);
    copy[at] = (copy[at] ?? 0) ^ (1 << Math.floor(random.fraction() * 8));
    writeFileSync(flipped, copy);
    try {
      const { fault } = verifyLog({ path: flipped });
      const events = JSON.stringify(openEvents(flipped));
      if (fault !== undefined) reported += 1;
      else if (events === whole) harmless += 1;
      else t.fail(`bit at byte ${at} changed what is read, and verification was silent`);
    } catch (error) {
      if (!(error instanceof LogError)) t.fail(`byte ${at}: ${String(error)}`);
      reported += 1;
    }
  }
  t.ok(reported > 100, `${reported} reported, ${harmless} harmless, in ${statSync(path).size} bytes`);
});

function openEvents(path: string) {
  const reader = openLogReader({ path });
  try {
    return reader.read({});
  } finally {
    reader.close();
  }
}

t.test('a start checks the pages of the file, up to a size and after a crash', async (t) => {
  const directory = temporaryDirectory(t);
  const path = madeLog(directory);
  t.equal(startChecksPages(path), true, 'a small log');
  const large = join(directory, 'large.db');
  writeFileSync(large, '');
  truncateSync(large, 100 * 2 ** 20);
  t.equal(startChecksPages(large), false, 'a large one that was closed');
  writeFileSync(`${large}-wal`, 'left behind');
  t.equal(startChecksPages(large), true, 'a large one that was not');
  truncateSync(large, 600 * 2 ** 20);
  t.equal(startChecksPages(large), false, 'one too large for a start');

  // A page of the free list that is also in use: no event is touched, and the file is corrupt all the same.
  const db = new Database(path);
  const root = db.prepare("SELECT rootpage FROM sqlite_schema WHERE name = 'event_keys'").pluck().get();
  db.exec('PRAGMA journal_mode = DELETE');
  db.close();
  const bytes = readFileSync(path);
  bytes.writeUInt32BE(Number(root), 32);
  bytes.writeUInt32BE(1, 36);
  writeFileSync(path, bytes);
  t.match(verifyLog({ path }).fault, { position: undefined, reason: /database file is corrupt/ });
  t.throws(() => openHost({ path }), { trouble: 'damaged', message: /does not verify/ });
  t.doesNotThrow(() => openHost({ path, verify: 'none' }).close());
});
