/** Where chains end is written in batches, and the -wal file is laid out ahead: neither may ever show. */
import { copyFileSync, existsSync, statSync } from 'node:fs';
import { join } from 'node:path';
import Database from 'better-sqlite3';
import t from 'tap';
import { openLogReader } from '../../../events/log.ts';
import { verifyLog } from '../../../events/verify.ts';
import {
  agentStarted,
  keyOf,
  openHost,
  operator,
  overTheWire,
  routeAdded,
  temporaryDirectory,
} from './given-log.ts';

/** What a crash leaves: the files as they are while the log is open. */
function crashed(path: string, to: string): string {
  for (const suffix of ['', '-wal']) if (existsSync(path + suffix)) copyFileSync(path + suffix, to + suffix);
  return to;
}

t.test('after a crash at any length of the tail every chain goes on where it ended', async (t) => {
  const directory = temporaryDirectory(t);
  const path = join(directory, 'a.db');
  const other = openHost({ path: join(directory, 'b.db'), n: 2 });
  const log = openHost({ path });
  for (let i = 1; log.head < 140; i += 1) {
    log.append(i % 5 === 0 ? [routeAdded(i), agentStarted] : [routeAdded(i)], operator);
    if (i % 7 === 0) {
      other.append([routeAdded(1_000 + i)], operator);
      log.receive(other.origin, keyOf(2), overTheWire(other.range(other.origin, 1, 100)));
    }
    if (i % 9 !== 0) continue;
    const copy = crashed(path, join(directory, `crashed-${i}.db`));
    const reader = openLogReader({ path: copy, verify: 'tail' });
    t.same(reader.chains(), log.chains(), `${log.head} events, read only`);
    t.same(reader.versionVector(), log.versionVector());
    reader.close();
    const again = openHost({ path: copy });
    t.same(again.chains(), log.chains(), `${log.head} events, opened again`);
    again.append([routeAdded(i + 500), agentStarted], operator);
    again.close();
    t.equal(verifyLog({ path: copy }).fault, undefined);
  }
  t.same(
    openLogReader({ path }).chains(),
    log.chains(),
    'another process sees the same of the log that is open',
  );
  log.close();
  other.close();
  const db = new Database(path, { readonly: true });
  const stored = db.prepare('SELECT origin, stream, seq FROM chain_heads ORDER BY 1, 2').raw().all();
  db.close();
  const reader = openLogReader({ path });
  t.same(
    reader.chains().map(({ origin, stream, seq }) => [origin, stream, seq]),
    stored,
    'closed, nothing lags',
  );
  reader.close();
});

t.test('keys that reach past the last event are reported', async (t) => {
  const path = join(temporaryDirectory(t), 'a.db');
  const log = openHost({ path });
  for (let i = 1; i <= 70; i += 1) log.append([routeAdded(i)], operator);
  log.close();
  const db = new Database(path);
  db.exec('UPDATE event_keys SET position = 1000000 WHERE position = 70');
  db.close();
  t.match(verifyLog({ path }).fault, { reason: /missing among the keys/ });
  const past = /keys .* reach past the newest event, 70/;
  t.throws(() => openHost({ path }), { trouble: 'damaged', message: past });

  // Each event has its keys, and one that is not there has some too.
  const more = new Database(path);
  more.exec('UPDATE event_keys SET position = 70 WHERE position = 1000000');
  more.exec(
    'CREATE TEMP TABLE copied AS SELECT * FROM event_keys WHERE position = 70; UPDATE copied SET position = 71, seq = 71; INSERT INTO event_keys SELECT * FROM copied',
  );
  more.close();
  t.match(verifyLog({ path }).fault, { reason: past });
});

t.test('a log of format 2 is read as it is, and lifted when an agent opens it', async (t) => {
  const path = join(temporaryDirectory(t), 'a.db');
  const log = openHost({ path });
  for (let i = 1; i <= 10; i += 1) log.append([routeAdded(i)], operator);
  const events = log.read({});
  log.close();
  const version = (set = ''): unknown => {
    const db = new Database(path);
    const found = db.pragma(`user_version${set}`, { simple: true });
    db.close();
    return found;
  };
  version(' = 2');
  const reader = openLogReader({ path, verify: 'full' });
  t.same(reader.read({}), events);
  reader.close();
  t.equal(version(), 2, 'reading changes nothing');
  const lifted = openHost({ path, verify: 'full' });
  t.same(lifted.read({}), events);
  lifted.close();
  t.equal(version(), 3);
});

t.test('the -wal file is laid out ahead, and goes when the log is closed', async (t) => {
  const path = join(temporaryDirectory(t), 'a.db');
  const log = openHost({ path });
  log.append([routeAdded(1)], operator);
  const first = statSync(`${path}-wal`).size;
  t.ok(first >= 256 * 1024);
  for (let i = 2; i <= 20; i += 1) log.append([routeAdded(i)], operator);
  t.equal(statSync(`${path}-wal`).size, first, 'appends lie within it');
  const copy = crashed(path, `${path}.copy`);
  t.equal(verifyLog({ path: copy }).events, 20);
  log.close();
  t.notOk(existsSync(`${path}-wal`));
});
