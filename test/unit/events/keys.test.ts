/** What events are looked up by is filled in batches: whatever the length of the tail without entries, a lookup finds the same. */
import { copyFileSync } from 'node:fs';
import { join } from 'node:path';
import Database from 'better-sqlite3';
import t, { type Test } from 'tap';
import type { AnyEvent } from '../../../events/envelope.ts';
import { openLogReader } from '../../../events/log.ts';
import type { LogReader, ReadFilter } from '../../../events/log-contract.ts';
import { verifyLog } from '../../../events/verify.ts';
import {
  agentStarted,
  openHost,
  operator,
  routeAdded,
  routeUpdated,
  temporaryDirectory,
} from './given-log.ts';

/** The tables as the first releases made them: keys as generated columns, each with an index. */
const FORMAT_ONE = `
DROP TABLE event_keys;
ALTER TABLE events ADD COLUMN id TEXT AS (body ->> 'id');
ALTER TABLE events ADD COLUMN origin TEXT AS (body ->> 'origin');
ALTER TABLE events ADD COLUMN stream TEXT AS (body ->> 'stream');
ALTER TABLE events ADD COLUMN seq INTEGER AS (body ->> 'seq');
ALTER TABLE events ADD COLUMN hlc TEXT AS (body ->> 'hlc');
ALTER TABLE events ADD COLUMN type TEXT AS (body ->> 'type');
ALTER TABLE events ADD COLUMN entity TEXT AS (body ->> 'entity');
ALTER TABLE events ADD COLUMN actor_kind TEXT AS (body ->> '$.actor.kind');
ALTER TABLE events ADD COLUMN actor_id TEXT AS (body ->> '$.actor.id');
CREATE UNIQUE INDEX events_chain ON events (origin, stream, seq);
CREATE INDEX events_id ON events (id);
CREATE INDEX events_entity ON events (entity, stream);
CREATE INDEX events_type ON events (type);
PRAGMA user_version = 1;
`;

const positions = (events: readonly AnyEvent[]): number[] => events.map((event) => event.position);

/** Every kind of question, against the answer that a look at every event gives. */
function expectLookups(t: Test, log: LogReader, label: string): void {
  const all = log.read({});
  const entity = routeAdded(3).entity;
  const questions: readonly (readonly [ReadFilter, (event: AnyEvent) => boolean])[] = [
    [{ entity }, (event) => event.entity === entity],
    [{ types: ['agent.started', 'route.updated'] }, (event) => event.type !== 'route.added'],
    [{ stream: 'local' }, (event) => event.stream === 'local'],
    [{ origin: log.origin, stream: 'config' }, (event) => event.stream === 'config'],
    [{ actor: 'cli_01JD0000000000000000000000', entity }, (event) => event.entity === entity],
    [
      { types: ['route.added'], after: 5 as never, until: 70 as never },
      (event) => event.type === 'route.added' && event.position > 5 && event.position <= 70,
    ],
  ];
  for (const [filter, fits] of questions) {
    const due = positions(all.filter(fits));
    const what = `${label}: ${JSON.stringify(filter)}`;
    t.same(positions(log.read(filter)), due, what);
    t.same(positions(log.read({ ...filter, limit: 3 })), due.slice(0, 3), `${what}, the first three`);
    const backwards = [...log.pages({ ...filter, limit: 7 }, { reverse: true })].flat();
    t.same(positions(backwards), due.reverse(), `${what}, newest first`);
  }
  const config = all.filter((event) => event.stream === 'config');
  t.equal(log.entityVersion(entity), config.filter((event) => event.entity === entity).length);
  t.same(positions(log.range(log.origin, 4, 10_000)), positions(config.slice(3)), `${label}: a range`);
  for (const event of all) t.equal(log.get(event.id)?.position, event.position);
}

t.test('a lookup finds the same before and after every batch', async (t) => {
  const path = join(temporaryDirectory(t), 'a.db');
  const log = openHost({ path });
  for (let i = 1; log.head < 150; i += 1) {
    log.append(
      [routeAdded(i), ...(i % 3 === 0 ? [agentStarted] : []), routeUpdated((i % 5) + 1, i)],
      operator,
    );
    if ([10, 60, 63, 66, 90, 126, 130].some((at) => log.head >= at && log.head < at + 3))
      expectLookups(t, log, `${log.head} events`);
  }
  log.close();
  const again = openHost({ path });
  expectLookups(t, again, 'opened again');
  again.close();
  const reader = openLogReader({ path });
  expectLookups(t, reader, 'read only');
  reader.close();
  t.equal(verifyLog({ path }).fault, undefined);
});

t.test('entries that are missing or not the events own are found', async (t) => {
  const directory = temporaryDirectory(t);
  const path = join(directory, 'a.db');
  const log = openHost({ path });
  for (let i = 1; i <= 100; i += 1) log.append([routeAdded(i)], operator);
  log.close();
  const tampered = join(directory, 'tampered.db');
  for (const [sql, position, reason] of [
    ['DELETE FROM event_keys WHERE position = 30', 30, /missing among the keys/],
    ["UPDATE event_keys SET entity = 'rte_other' WHERE position = 31", 31, /not its own/],
  ] as const) {
    copyFileSync(path, tampered);
    const db = new Database(tampered);
    db.exec(sql);
    db.close();
    t.match(verifyLog({ path: tampered }).fault, { position, reason });
  }
  // Derived as they are, they can be thrown away: the next start makes them again.
  const db = new Database(path);
  db.exec('DELETE FROM event_keys');
  db.close();
  const again = openHost({ path });
  expectLookups(t, again, 'made again');
  again.close();
  t.equal(verifyLog({ path }).fault, undefined);
});

t.test('a log of format 1 is read as it is, and lifted when an agent opens it', async (t) => {
  const directory = temporaryDirectory(t);
  const path = join(directory, 'a.db');
  const log = openHost({ path });
  for (let i = 1; i <= 100; i += 1)
    log.append([routeAdded(i), ...(i % 4 === 0 ? [agentStarted] : [])], operator);
  const events = log.read({});
  log.close();
  const db = new Database(path);
  db.exec(FORMAT_ONE);
  db.close();

  const reader = openLogReader({ path, verify: 'full' });
  t.same(reader.read({}), events);
  expectLookups(t, reader, 'format 1, read only');
  reader.close();
  t.equal(verifyLog({ path }).fault, undefined);

  const lifted = openHost({ path, verify: 'full' });
  t.same(lifted.read({}), events);
  expectLookups(t, lifted, 'lifted');
  lifted.append([routeUpdated(3, 9)], operator);
  lifted.close();
  t.equal(verifyLog({ path }).fault, undefined);
  const after = new Database(path, { readonly: true });
  t.equal(after.pragma('user_version', { simple: true }), 3);
  t.same(after.prepare("SELECT name FROM pragma_table_xinfo('events')").pluck().all(), [
    'position',
    'recorded_at_ms',
    'checksum',
    'body',
    'hash',
    'signature',
  ]);
  after.close();
});
