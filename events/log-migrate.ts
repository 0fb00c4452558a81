import type Database from 'better-sqlite3';
import { KEY_COLUMNS, KEYS_TABLE } from './log-keys.ts';

/** Format 1 had its keys as columns generated from `body`, with an index each that every append kept. */
const GENERATED = ['id', 'origin', 'stream', 'seq', 'hlc', 'type', 'entity', 'actor_kind', 'actor_id'];
const INDEXES = ['events_chain', 'events_id', 'events_entity', 'events_type'];

/**
 * Lifts the tables to the current format, all or nothing. Stored events are not touched: the columns of format 1 were virtual,
 * so dropping them rewrites no row. That takes about 10 s for a million events, once. Format 2 has the tables of format 3; the
 * number keeps programs away that do not know that `chain_heads` may lag behind.
 */
export function liftFormat(db: Database.Database, from: number, to: number): void {
  db.transaction(() => {
    if (from === 1) liftFormatOne(db);
    db.pragma(`user_version = ${to}`);
  }).immediate();
}

function liftFormatOne(db: Database.Database): void {
  db.exec(KEYS_TABLE);
  const columns = KEY_COLUMNS.join(', ');
  db.exec(`INSERT INTO event_keys (${columns}) SELECT ${columns} FROM events ORDER BY position`);
  for (const index of INDEXES) db.exec(`DROP INDEX ${index}`);
  for (const column of GENERATED) db.exec(`ALTER TABLE events DROP COLUMN ${column}`);
}

/** Lets a log of format 1 be read as it is, where it cannot be lifted: a copy, a backup, read-only media. */
export function readFormatOne(db: Database.Database): void {
  db.pragma('temp_store = MEMORY');
  db.exec(`CREATE TEMP VIEW event_keys AS SELECT ${KEY_COLUMNS.join(', ')} FROM main.events`);
}
