import { chmodSync, copyFileSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import Database from 'better-sqlite3';
import t from 'tap';
import { agentStarted, openHost, operator, routeAdded } from '../events/given-log.ts';
import { createHome } from './run-cli.ts';

t.test('log verify says that a log is whole, or where it is not, why, and what to do', async (t) => {
  const home = createHome();
  t.teardown(() => home.remove());
  const path = join(home.directory, 'arctic.db');
  const log = openHost({ path });
  for (let i = 1; i <= 12; i += 1) log.append([routeAdded(i), agentStarted], operator);

  const live = await home.run(['log', 'verify', '--db', path, '--full', '--json']);
  t.equal(live.code, 0, live.stderr);
  t.match(JSON.parse(live.stdout), {
    ok: true,
    scope: 'full',
    events: 24,
    peer_id: log.origin,
    chains: { length: 2 },
  });
  // What is looked at as evidence stays as it is, down to what a writer would move from the -wal file.
  const copy = join(home.directory, 'copy.db');
  const files = [copy, `${copy}-wal`];
  for (const suffix of ['', '-wal']) copyFileSync(path + suffix, copy + suffix);
  chmodSync(copy, 0o640);
  const before = files.map((file) => readFileSync(file));
  for (const full of [['--full'], []])
    t.equal((await home.run(['log', 'verify', '--db', copy, ...full])).code, 0);
  t.same(
    files.map((file) => readFileSync(file)),
    before,
  );
  t.equal(statSync(copy).mode & 0o777, 0o640);
  log.close();

  const own = await home.run(['log', 'verify'], { env: { DATA_DIR: home.directory } });
  t.equal(own.code, 0, own.stderr);
  t.match(own.stdout, /verifies: the newest events.*\n24 events; --full/);

  const db = new Database(path);
  db.exec(
    "DROP TRIGGER events_no_update; UPDATE events SET body = replace(body, 'Z', 'Y') WHERE position = 9",
  );
  db.exec('UPDATE events SET recorded_at_ms = 7 WHERE position = 9');
  db.close();
  for (const full of [['--full'], []]) {
    const broken = await home.run(['log', 'verify', '--db', path, ...full]);
    t.equal(broken.code, 3);
    t.match(
      broken.stderr,
      /does not verify at position 9: .*Restore a backup with `arctic restore FILE`, or .*mv /,
    );
  }
  const machine = await home.run(['log', 'verify', '--db', path, '--full', '--json']);
  t.equal(machine.code, 3);
  t.match(JSON.parse(machine.stdout), { ok: false, position: 9, reason: /checksum/ });

  const none = await home.run(['log', 'verify', '--db', join(home.directory, 'nothing.db')]);
  t.equal(none.code, 3);
  t.match(none.stderr, /there is no event log at/);
});
