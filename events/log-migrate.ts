import type Database from 'better-sqlite3';
import { KEY_COLUMNS, KEYS_TABLE } from './log-keys.ts';

/** Format 1 had its keys as columns generated from `body`, with an index each that every append kept. */
const GENERATED = ['id', 'origin', 'stream', 'seq', 'hlc', 'type', 'entity', 'actor_kind', 'actor_id'];
const INDEXES = ['events_chain', 'events_id', 'events_entity', 'events_type'];

/**
 * Lifts the tables from format 1 to 2, all or nothing. Stored events are not touched: the columns were virtual, so dropping
 * them rewrites no row. Takes about 10 s for a million events, once.
 */
export function liftFormat(db: Database.Database, to: number): void {
  db.transaction(() => {
    db.exec(KEYS_TABLE);
    const columns = KEY_COLUMNS.join(', ');
    db.exec(`INSERT INTO event_keys (${columns}) SELECT ${columns} FROM events ORDER BY position`);
    for (const index of INDEXES) db.exec(`DROP INDEX ${index}`);
    for (const column of GENERATED) db.exec(`ALTER TABLE events DROP COLUMN ${column}`);
    db.pragma(`user_version = ${to}`);
  }).immediate();
}

/** Lets a log of format 1 be read as it is, where it cannot be lifted: a copy, a backup, read-only media. */
export function readFormatOne(db: Database.Database): void {
  db.pragma('temp_store = MEMORY');
  db.exec(`CREATE TEMP VIEW event_keys AS SELECT ${KEY_COLUMNS.join(', ')} FROM main.events`);
}
