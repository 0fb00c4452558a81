import type Database from 'better-sqlite3';
import { logError } from './log-errors.ts';

/** Typed raw queries. `all` and `get` give arrays of columns; errors become sentences that name the file. */
export interface RowQueries {
  all<Row>(sql: string, ...parameters: readonly unknown[]): Row[];
  get<Row>(sql: string, ...parameters: readonly unknown[]): Row | undefined;
}

/** Statements are compiled once by their text; the number of different texts is small and fixed by this file. */
export function createRowQueries(db: Database.Database, path: string): RowQueries {
  const prepared = new Map<string, Database.Statement>();
  const statement = (sql: string): Database.Statement => {
    let found = prepared.get(sql);
    if (found === undefined) {
      found = db.prepare(sql).raw();
      prepared.set(sql, found);
    }
    return found;
  };
  const guarded = <T>(run: () => T): T => {
    try {
      return run();
    } catch (error) {
      throw logError(path, 'read', error);
    }
  };
  return {
    all: <Row>(sql: string, ...parameters: readonly unknown[]) =>
      guarded(() => statement(sql).all(...parameters) as Row[]),
    get: <Row>(sql: string, ...parameters: readonly unknown[]) =>
      guarded(() => statement(sql).get(...parameters) as Row | undefined),
  };
}
