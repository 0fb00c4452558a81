import { closeSync, existsSync, openSync } from 'node:fs';
import Database from 'better-sqlite3';
import { LogError, logError, sqliteCode } from './log-errors.ts';

/**
 * One writer for each log. The lock is an exclusive transaction on a small database beside it, held until `release`:
 * the kernel drops it when the process dies, however it dies, and readers and online backups of the log are not in its
 * way. (`locking_mode = EXCLUSIVE` on the log itself would shut them out.)
 */
export function lockLog(path: string): { release(): void } {
  const lockPath = `${path}.lock`;
  let db: Database.Database | undefined;
  try {
    // Closing any descriptor of a file drops every POSIX lock this process holds on it, so an existing one is not touched.
    if (!existsSync(lockPath)) closeSync(openSync(lockPath, 'a', 0o600));
    db = new Database(lockPath, { timeout: 0 });
    // The lock is all there is to this file; no journal may be left beside it.
    db.pragma('journal_mode = MEMORY');
    db.exec('BEGIN EXCLUSIVE');
  } catch (error) {
    db?.close();
    if (sqliteCode(error)?.startsWith('SQLITE_BUSY') === true) {
      throw new LogError(
        'in-use',
        path,
        `another agent is running on the event log ${path}; stop it first (systemctl stop arctic), or give this one its own DATA_DIR`,
        { cause: error },
      );
    }
    if (sqliteCode(error) !== undefined) throw logError(lockPath, 'lock', error);
    const reason = error instanceof Error ? error.message : String(error);
    throw new LogError('unusable', path, `cannot lock the event log ${path}: ${reason}`, { cause: error });
  }
  const held = db;
  return { release: () => held.close() };
}
