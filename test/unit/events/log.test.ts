import { spawnSync } from 'node:child_process';
import { chmodSync, copyFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import Database from 'better-sqlite3';
import t from 'tap';
import type { EventId, PeerId, Position } from '../../../events/brand.ts';
import type { AnyEvent } from '../../../events/envelope.ts';
import { openLogReader } from '../../../events/log.ts';
import { logError } from '../../../events/log-errors.ts';
import { openDatabase } from '../../../events/log-schema.ts';
import { verifyLog } from '../../../events/verify.ts';
import {
  agentStarted,
  agentStopped,
  openHost,
  operator,
  routeAdded,
  routeUpdated,
  setClock,
  temporaryDirectory,
} from './given-log.ts';

t.test('an append is stored, chained, signed once a stream, and read back as it was given', async (t) => {
  const path = join(temporaryDirectory(t), 'arctic.db');
  let log = openHost({ path });
  const first = log.append([routeAdded(1), routeAdded(2), agentStarted], operator);
  const second = log.append([routeUpdated(1, 7)], operator);
  t.same(
    first.map((e) => [e.position, e.stream, e.seq, e.signature !== null]),
    [
      [1, 'config', 1, false],
      [2, 'config', 2, true],
      [3, 'local', 1, true],
    ],
  );
  t.equal(second[0]?.prev_hash, first[1]?.hash);
  t.equal(log.head, 4);
  t.same(log.read({}), [...first, ...second]);
  t.same(log.get(first[1]?.id as EventId), first[1]);
  t.same(log.versionVector(), { [log.origin]: 3 });
  t.equal(log.entityVersion(routeAdded(1).entity), 2);
  const { origin } = log;
  log.close();
  log = openHost({ path, verify: 'full' });
  t.equal(log.origin, origin);
  t.same(log.read({}), [...first, ...second], 'after a restart too');
  const [third] = log.append([routeAdded(3)], operator);
  t.equal(third?.prev_hash, second[0]?.hash, 'the chain goes on');
  t.ok((third?.hlc ?? '') > (second[0]?.hlc ?? ''), 'and so does the clock');
  t.equal(verifyLog({ path }).fault, undefined);
  log.close();
  t.equal(statSync(path).mode & 0o777, 0o600);
  t.throws(() => log.append([agentStarted], operator), { code: 'UNAVAILABLE' });
});

t.test('filters and pages', async (t) => {
  const clock = setClock();
  const log = openHost({ path: join(temporaryDirectory(t), 'arctic.db'), clock });
  const all: AnyEvent[] = [];
  for (let i = 1; i <= 25; i += 1) {
    clock.advance(1_000);
    all.push(...log.append([routeAdded(i), ...(i % 5 === 0 ? [agentStarted] : [])], operator));
  }
  t.same([...log.pages({ limit: 7 })].flat(), all);
  t.same([...log.pages({ limit: 7 }, { reverse: true })].flat(), all.toReversed());
  t.same(log.read({ stream: 'local' }).length, 5);
  t.same(log.read({ types: ['route.added', 'nothing'] }).length, 25);
  t.same(log.read({ entity: routeAdded(3).entity }).length, 1);
  t.same(
    log.read({ after: 3 as Position, until: 5 as Position }).map((e) => e.position),
    [4, 5],
  );
  const middle = all[11] as AnyEvent;
  t.same(log.read({ untilHlc: middle.hlc }), all.slice(0, 12));
  t.equal(log.read({ actor: operator.actor.id ?? '' }).length, 30);
  t.equal(log.read({ actor: 'system' }).length, 0);
  t.equal(log.read({ origin: 'peer_01JD0000000000000000000000' as PeerId }).length, 0);
  t.equal(log.read({ limit: 4 }).length, 4);
  t.equal(log.recordedAt(1 as Position), clock.now() - 24_000);
  t.equal(log.positionAt(clock.now() - 24_000), 1);
  t.equal(log.positionAt(clock.now() - 25_000), 0);
  t.equal(log.positionAt(clock.now()), 30);
  log.close();
});

t.test('repeating an append gives the first result, over restarts too', async (t) => {
  const path = join(temporaryDirectory(t), 'arctic.db');
  const clock = setClock();
  let log = openHost({ path, clock });
  const once = log.append([routeAdded(1), routeAdded(2)], { ...operator, idempotencyKey: 'k' });
  t.same(log.append([routeAdded(9)], { ...operator, idempotencyKey: 'k' }), once);
  const id = 'evt_01JD0000000000000000000001' as EventId;
  const named = log.append([{ ...routeAdded(3), id }], operator);
  log.close();
  log = openHost({ path, clock });
  t.same(log.append([routeAdded(1)], { ...operator, idempotencyKey: 'k' }), once);
  t.same(log.append([{ ...routeAdded(3), id }], operator), named);
  t.equal(log.head, 3);
  t.throws(() => log.append([{ ...routeAdded(4), id }, routeAdded(5)], operator), { code: 'CONFLICT' });
  clock.advance(8 * 24 * 3_600_000);
  log.append([routeAdded(6)], { ...operator, idempotencyKey: 'other' });
  t.equal(
    log.append([routeAdded(7)], { ...operator, idempotencyKey: 'k' })[0]?.position,
    5,
    'keys are forgotten after a week',
  );
  log.close();
});

t.test('a stale version and unfit data are refused and leave nothing', async (t) => {
  const log = openHost({ path: join(temporaryDirectory(t), 'arctic.db') });
  const { entity } = routeAdded(1);
  log.append([routeAdded(1)], { ...operator, expectedVersion: { entity, version: 0 } });
  t.throws(() => log.append([routeUpdated(1, 5)], { ...operator, expectedVersion: { entity, version: 0 } }), {
    code: 'CONFLICT',
  });
  log.append([routeUpdated(1, 5)], { ...operator, expectedVersion: { entity, version: 1 } });
  t.throws(() => log.append([routeUpdated(1, 70_000)], operator), {
    code: 'INVALID_REQUEST',
    details: [{ pointer: '/data/priority' }],
  });
  t.throws(() => log.append([routeUpdated(1, Number.NaN)], operator), { code: 'INVALID_REQUEST' });
  t.throws(() => log.append([{ ...routeAdded(1), entity: 'a\nb' }], operator), { code: 'INVALID_REQUEST' });
  t.throws(
    () =>
      log.append(
        Array.from({ length: 10_001 }, () => agentStarted),
        operator,
      ),
    { code: 'TOO_LARGE' },
  );
  t.same(log.append([], operator), []);
  t.equal(log.head, 2);
  t.equal(log.append([routeAdded(2)], operator)[0]?.seq, 3, 'a refused append uses up no number');
  log.close();
});

t.test('subscribers see every event once, in order, also when one of them appends or throws', async (t) => {
  const errors: unknown[] = [];
  const log = openHost({
    path: join(temporaryDirectory(t), 'arctic.db'),
    onError: (error) => errors.push(error),
  });
  log.append([routeAdded(1)], operator);
  const seen: number[] = [];
  const late: number[] = [];
  let stopLate = () => {};
  log.subscribe(() => {
    throw new Error('a bug in a subscriber');
  });
  log.subscribe((events) => {
    if (events[0]?.type !== 'route.added') return;
    log.append([agentStopped('inside')], operator);
    if (late.length === 0)
      stopLate = log.subscribeFrom(0 as Position, (page) => late.push(...page.map((e) => e.position)));
  });
  const stop = log.subscribe((events) => seen.push(...events.map((e) => e.position)));
  log.append([routeAdded(2), routeAdded(3)], operator);
  t.same(seen, [2, 3, 4]);
  t.same(late, [1, 2, 3, 4]);
  t.equal(errors.length, 2);
  stop();
  stopLate();
  log.append([agentStarted], operator);
  t.same(seen, [2, 3, 4]);
  t.same(late, [1, 2, 3, 4]);
  log.close();
});

t.test('meta and snapshots', async (t) => {
  const path = join(temporaryDirectory(t), 'arctic.db');
  const log = openHost({ path });
  log.meta.set('a', '1');
  log.meta.set('a', '2');
  for (const position of [10, 30, 20]) {
    log.snapshots.put('views', {
      position: position as Position,
      digest: `d${position}`,
      foldVersion: 3,
      state: Uint8Array.of(position),
    });
  }
  t.equal(log.meta.get('a'), '2');
  t.equal(log.meta.get('b'), undefined);
  t.match(log.snapshots.latest('views'), { position: 30, digest: 'd30', foldVersion: 3 });
  t.equal(log.snapshots.latest('other'), undefined);
  log.close();
  const db = new Database(path, { readonly: true });
  t.equal(db.prepare('SELECT count(*) FROM snapshots').pluck().get(), 2);
  db.close();
});

t.test('the table refuses UPDATE and DELETE', async (t) => {
  const path = join(temporaryDirectory(t), 'arctic.db');
  const log = openHost({ path });
  log.append([routeAdded(1)], operator);
  log.close();
  const db = new Database(path);
  for (const sql of [
    "UPDATE events SET hash = 'x'",
    'DELETE FROM events',
    'UPDATE events SET recorded_at_ms = 0',
  ]) {
    t.throws(() => db.exec(sql), /append-only/);
  }
  db.close();
});

t.test('one writer: a second one is refused, in this process and in another; readers are not', async (t) => {
  const path = join(temporaryDirectory(t), 'arctic.db');
  let atLast = 'never closed';
  const log = openHost({
    path,
    connect: (at, birth) => {
      const db = openDatabase(at, birth);
      const close = db.close.bind(db);
      db.close = () => {
        atLast = other();
        return close();
      };
      return db;
    },
  });
  log.append([routeAdded(1)], operator);
  for (let i = 0; i < 2; i += 1)
    t.throws(() => openHost({ path }), { trouble: 'in-use', code: 'UNAVAILABLE', message: new RegExp(path) });
  const script = `import Database from 'better-sqlite3';
    try { const db = new Database(process.argv[1] + '.lock', { timeout: 0 }); db.exec('BEGIN EXCLUSIVE'); console.log('free'); }
    catch (error) { console.log(error.code); }`;
  const other = () =>
    spawnSync(process.execPath, ['--input-type=module', '-e', script, path], {
      encoding: 'utf8',
    }).stdout.trim();
  t.equal(other(), 'SQLITE_BUSY', 'the refused attempts did not loosen the lock');
  const reader = openLogReader({ path });
  t.equal(reader.head, 1);
  log.append([routeAdded(2)], operator);
  t.equal(reader.read({}).length, 2, 'a reader follows a live log');
  reader.close();
  log.close();
  t.equal(atLast, 'SQLITE_BUSY', 'the lock is held until the last byte is written');
  t.equal(other(), 'free');
  openHost({ path }).close();
});

t.test('databases that are not for this agent', async (t) => {
  const directory = temporaryDirectory(t);
  const path = join(directory, 'arctic.db');
  openHost({ path }).close();
  t.throws(() => openHost({ path, n: 2 }), { trouble: 'foreign', exit: 3, message: /identity key/ });
  t.throws(() => openHost({ path, origin: 'peer_01JD0000000000000000000000' as PeerId }), {
    name: 'LogError',
    trouble: 'foreign',
  });
  const db = new Database(path);
  db.pragma('user_version = 99');
  db.close();
  t.throws(() => openHost({ path }), { trouble: 'newer', exit: 3, message: /format 99.*newer Arctic/ });
  t.throws(() => openLogReader({ path }), { name: 'LogError', trouble: 'newer' });
  const other = join(directory, 'other.db');
  const foreign = new Database(other);
  foreign.exec('CREATE TABLE x (y)');
  foreign.close();
  t.throws(() => openHost({ path: other }), { name: 'LogError', trouble: 'foreign' });
  const text = join(directory, 'text.db');
  writeFileSync(
    text,
    'not a database at all, only some text that is long enough to have a header '.repeat(20),
  );
  t.throws(() => openHost({ path: text }), { trouble: 'damaged', message: /arctic restore/ });
  t.throws(() => openHost({ path: join(directory, 'no/such/arctic.db') }), {
    name: 'LogError',
    trouble: 'unusable',
  });
  t.throws(() => openLogReader({ path: join(directory, 'absent.db') }), {
    name: 'LogError',
    trouble: 'unusable',
  });
});

t.test('a full disk refuses writes, keeps reads, and recovers by itself', async (t) => {
  const path = join(temporaryDirectory(t), 'arctic.db');
  let db: Database.Database | undefined;
  const log = openHost({
    path,
    connect: (at, birth) => {
      db = openDatabase(at, birth);
      return db;
    },
  });
  const kept = [...log.append([routeAdded(1)], operator)];
  const seen: number[] = [];
  log.subscribe((events) => seen.push(...events.map((e) => e.position)));
  db?.pragma('max_page_count = 40');
  let refused = 0;
  for (let i = 2; i < 200; i += 1) {
    try {
      // One event is a statement, several are a transaction.
      kept.push(...log.append(i % 2 === 0 ? [routeAdded(i), agentStarted] : [routeAdded(i)], operator));
    } catch (error) {
      t.match(error, {
        code: 'UNAVAILABLE',
        status: 503,
        trouble: 'unusable',
        message: /disk is full.*SQLITE_FULL/,
      });
      refused += 1;
      if (refused > 3) break;
    }
  }
  t.equal(refused, 4, 'the disk was full');
  t.equal(log.head, kept.length);
  t.same(log.read({}), kept, 'reads go on and nothing of the refused appends is there');
  t.same(
    seen,
    kept.slice(1).map((e) => e.position),
    'nobody was told of them',
  );
  db?.pragma('max_page_count = 100000');
  kept.push(...log.append([routeAdded(500)], operator));
  kept.push(...log.append([routeAdded(501), agentStarted], operator));
  t.same(log.read({}), kept);
  log.close();
  openHost({ path, verify: 'full' }).close();
});

t.test(
  'what the operating system refuses is named for what it is, and is never a fault of the agent',
  async (t) => {
    for (const [code, trouble, message] of [
      ['SQLITE_FULL', 'unusable', /disk is full.*goes on by itself/],
      ['SQLITE_READONLY_DBMOVED', 'unusable', /read-only.*write access/],
      ['SQLITE_CANTOPEN', 'unusable', /cannot be opened/],
      ['SQLITE_PERM', 'unusable', /owner and mode/],
      ['SQLITE_IOERR_FSYNC', 'unusable', /input\/output error.*kernel log/],
      ['SQLITE_NOMEM', 'unusable', /out of memory/],
      ['SQLITE_BUSY_SNAPSHOT', 'in-use', /another process holds it/],
      ['SQLITE_CORRUPT_VTAB', 'damaged', /corrupt.*arctic restore/],
      ['SQLITE_NOTADB', 'damaged', /not a SQLite database/],
    ] as const) {
      const cause = Object.assign(new Error('as SQLite says it'), { code });
      const told = logError('/data/arctic.db', 'write to', cause);
      t.match(told, { name: 'LogError', status: 503, trouble, message, cause }, code);
      t.match(told, { message: /\/data\/arctic\.db/ });
    }
  },
);

t.test('removing only the database file, as the documentation says, gives a new log', async (t) => {
  const path = join(temporaryDirectory(t), 'arctic.db');
  const log = openHost({ path });
  log.append([routeAdded(1)], operator);
  copyFileSync(`${path}-wal`, `${path}-wal.kept`);
  log.close();
  copyFileSync(`${path}-wal.kept`, `${path}-wal`);
  rmSync(path);
  const fresh = openHost({ path, n: 2 });
  t.equal(fresh.head, 0);
  fresh.close();
});

t.test('a copy on read-only ground can be read', async (t) => {
  const directory = temporaryDirectory(t);
  const path = join(directory, 'arctic.db');
  const log = openHost({ path });
  log.append([routeAdded(1)], operator);
  log.close();
  chmodSync(path, 0o400);
  chmodSync(directory, 0o500);
  const reader = openLogReader({ path, verify: 'full' });
  t.equal(reader.read({}).length, 1);
  reader.close();
  chmodSync(directory, 0o700);
});
