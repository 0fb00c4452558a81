import { chmodSync } from 'node:fs';
import { logError } from './log-errors.ts';
import { openDatabaseReadOnly } from './log-schema.ts';

/** More pages than a log has: the copy is made in one step, so it is of one moment however busy the agent is. */
const ALL_PAGES = 0x7fff_ffff;

/**
 * Copies a log, a running agent's too, by SQLite's online backup: a whole and consistent log of one moment, readable by
 * its owner only. Never copies the file itself, whose newest pages may still be in the -wal.
 */
export async function backUpLog(path: string, to: string): Promise<void> {
  const db = openDatabaseReadOnly(path);
  try {
    await db.backup(to, { progress: () => ALL_PAGES });
    chmodSync(to, 0o600);
  } catch (error) {
    throw logError(path, 'read', error);
  } finally {
    db.close();
  }
}
