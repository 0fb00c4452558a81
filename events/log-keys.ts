import type Database from 'better-sqlite3';
import type { AnyEvent } from './envelope.ts';
import { COLUMNS, type EventRow, eventAsWritten } from './log-rows.ts';
import type { RowQueries } from './row-queries.ts';

/**
 * What events are looked up by, apart from their position. It is derived from `events`, can be built again at any time, and
 * is filled in batches: four indexes kept by every append would make it write four more pages, and a third slower. Behind
 * the newest entry there is a tail of events without one, which a lookup reads through.
 */
export const KEYS_TABLE = `
CREATE TABLE event_keys (
  position INTEGER PRIMARY KEY,
  id TEXT NOT NULL,
  origin TEXT NOT NULL,
  stream TEXT NOT NULL,
  seq INTEGER NOT NULL,
  type TEXT NOT NULL,
  entity TEXT NOT NULL
) STRICT;
CREATE UNIQUE INDEX event_keys_chain ON event_keys (origin, stream, seq);
CREATE INDEX event_keys_id ON event_keys (id);
CREATE INDEX event_keys_entity ON event_keys (entity, stream);
CREATE INDEX event_keys_type ON event_keys (type);
`;

/** Length of the tail without entries: a lookup reads through 64 rows in 0.1 ms, and a batch costs 6 us an event. */
const KEYS_BATCH = 64;
/** Events read at once when the entries have to catch up; held in memory meanwhile. */
const CATCH_UP = 10_000;

export const KEY_COLUMNS = ['position', 'id', 'origin', 'stream', 'seq', 'type', 'entity'] as const;
export type KeyColumn = Exclude<(typeof KEY_COLUMNS)[number], 'position'>;
/** One entry, in the order of KEY_COLUMNS. */
export type KeyRow = [
  position: number,
  id: string,
  origin: string,
  stream: string,
  seq: number,
  type: string,
  entity: string,
];

const INSERT_KEY = `INSERT INTO event_keys (${KEY_COLUMNS.join(', ')}) VALUES (?, ?, ?, ?, ?, ?, ?)`;

const keyOf = (event: AnyEvent): KeyRow => [
  event.position,
  event.id,
  event.origin,
  event.stream,
  event.seq,
  event.type,
  event.entity,
];

export interface KeyWriter {
  /** Whether these events make the batch full: then call `write` in the transaction that stores them. */
  due(count: number): boolean;
  /** Writes the entries of all that have none yet, and of these. */
  write(events: readonly AnyEvent[]): void;
  /** Call when the transaction is durable, with the same events and whether `write` was part of it. */
  done(events: readonly AnyEvent[], written: boolean): void;
}

/**
 * Keeps the entries of a log that is open for writing; catches up first where they are far behind. `alongside` runs in the
 * transactions of that.
 */
export function createKeyWriter(
  db: Database.Database,
  queries: RowQueries,
  alongside: () => void,
): KeyWriter {
  const insert = db.prepare(INSERT_KEY);
  const after = (position: number): KeyRow[] =>
    queries
      .all<EventRow>(
        `SELECT ${COLUMNS} FROM events WHERE position > ? ORDER BY position LIMIT ?`,
        position,
        CATCH_UP,
      )
      .map((row) => keyOf(eventAsWritten(row)));
  let pending = after(keysEnd(queries));
  while (pending.length >= KEYS_BATCH) {
    const keys = pending;
    db.transaction(() => {
      for (const key of keys) insert.run(key);
      alongside();
    }).immediate();
    pending = after(keysEnd(queries));
  }
  return {
    due: (count) => pending.length + count >= KEYS_BATCH,
    write(events) {
      for (const key of pending) insert.run(key);
      for (const event of events) insert.run(keyOf(event));
    },
    done(events, written) {
      if (written) pending = [];
      else for (const event of events) pending.push(keyOf(event));
    },
  };
}

/** One condition: `seq`, `>= ?`, 7. */
export type KeyTerm = readonly [column: KeyColumn, test: string, value: string | number];

export interface Lookup {
  readonly terms: readonly KeyTerm[];
  /** SQL on the row itself, for what has no entry; may name `body`. */
  readonly also?: string;
  readonly alsoValues?: readonly (string | number)[];
  /** Positions from after `low` up to `high`; default all. */
  readonly low?: number;
  readonly high?: number;
  /** Along a chain when its origin and stream are among the terms; default by position. */
  readonly order?: 'position' | 'seq';
  readonly reverse?: boolean;
  readonly limit: number;
}

/** The newest position that has an entry. */
export const keysEnd = (queries: RowQueries): number =>
  queries.get<[number | null]>('SELECT max(position) FROM event_keys')?.[0] ?? 0;

const row = (column: KeyColumn): string => `events.body ->> '${column}'`;

/** Rows that fit, from the entries and then from the tail without them (the other way round in reverse). */
export function lookUp(queries: RowQueries, lookup: Lookup): EventRow[] {
  const { terms, also = '', alsoValues = [], low = 0, high = Number.MAX_SAFE_INTEGER, limit } = lookup;
  const end = keysEnd(queries);
  const direction = lookup.reverse === true ? 'DESC' : 'ASC';
  const values = [...terms.map(([, , value]) => value), ...alsoValues];
  const columns = COLUMNS.replace('position', 'events.position');
  const rest = also === '' ? '' : ` AND ${also}`;
  const listed = (most: number): EventRow[] =>
    most <= 0 || low >= end
      ? []
      : queries.all<EventRow>(
          `SELECT ${columns} FROM event_keys AS k CROSS JOIN events ON events.position = k.position ` +
            `WHERE k.position > ? AND k.position <= ?${terms.map(([column, test]) => ` AND k.${column} ${test}`).join('')}${rest} ` +
            `ORDER BY k.${lookup.order ?? 'position'} ${direction} LIMIT ?`,
          low,
          Math.min(high, end),
          ...values,
          most,
        );
  const tail = (most: number): EventRow[] =>
    most <= 0 || high <= end
      ? []
      : queries.all<EventRow>(
          `SELECT ${columns} FROM events ` +
            `WHERE position > ? AND position <= ?${terms.map(([column, test]) => ` AND ${row(column)} ${test}`).join('')}${rest} ` +
            `ORDER BY position ${direction} LIMIT ?`,
          Math.max(low, end),
          high,
          ...values,
          most,
        );
  const [first, second] = lookup.reverse === true ? [tail, listed] : [listed, tail];
  const found = first(limit);
  return found.length === limit ? found : [...found, ...second(limit - found.length)];
}

/** How many fit. */
export function countOf(queries: RowQueries, terms: readonly KeyTerm[]): number {
  const values = terms.map(([, , value]) => value);
  const count = (sql: string, ...more: readonly number[]): number =>
    queries.get<[number]>(sql, ...values, ...more)?.[0] ?? 0;
  const end = keysEnd(queries);
  const where = (name: (column: KeyColumn) => string): string =>
    terms.map(([column, test]) => `${name(column)} ${test}`).join(' AND ');
  return (
    count(
      `SELECT count(*) FROM event_keys AS k WHERE ${where((column) => `k.${column}`)} AND k.position <= ?`,
      end,
    ) + count(`SELECT count(*) FROM events WHERE ${where(row)} AND position > ?`, end)
  );
}

export interface KeyChecks {
  /** Reads the entries of the events that follow a position. */
  page(after: number, count: number): void;
  /** What is wrong with the entry of an event of that page, in words; undefined when nothing is, or none is due yet. */
  fault(event: AnyEvent): string | undefined;
}

/** Compares entries with the events they are of; SQLite's own check compares the indexes with the entries. */
export function createKeyChecks(queries: RowQueries): KeyChecks {
  const end = keysEnd(queries);
  let entries = new Map<number, KeyRow>();
  return {
    page(after, count) {
      const rows = queries.all<KeyRow>(
        `SELECT ${KEY_COLUMNS.join(', ')} FROM event_keys WHERE position > ? ORDER BY position LIMIT ?`,
        after,
        count,
      );
      entries = new Map(rows.map((row) => [row[0], row]));
    },
    fault(event) {
      if (event.position > end) return undefined;
      const entry = entries.get(event.position);
      if (entry === undefined) return 'it is missing among the keys events are looked up by';
      const due = keyOf(event);
      return due.every((value, i) => value === entry[i])
        ? undefined
        : 'the keys it is looked up by are not its own';
    },
  };
}
