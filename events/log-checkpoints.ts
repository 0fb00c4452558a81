import type { PeerId } from './brand.ts';
import type { CheckpointStore, StoredCheckpoint } from './log-contract.ts';
import { damaged } from './log-errors.ts';
import { lookUp } from './log-keys.ts';
import { isIntact } from './log-rows.ts';
import type { RowQueries } from './row-queries.ts';

/** Kept of each origin. One proves all before it; a few more show when what was lost. */
export const CHECKPOINTS_KEPT = 8;

export const CHECKPOINT_TABLE = `
CREATE TABLE IF NOT EXISTS checkpoints (
  origin TEXT NOT NULL,
  size INTEGER NOT NULL,
  note TEXT NOT NULL,
  frontier TEXT NOT NULL,
  PRIMARY KEY (origin, size)
) STRICT, WITHOUT ROWID;
`;

export type CheckpointReads = Omit<CheckpointStore, 'put'>;

const PAGE = 512;

export function createCheckpointReads(queries: RowQueries, path: string): CheckpointReads {
  const read = (rest: string, ...parameters: readonly unknown[]): StoredCheckpoint[] =>
    queries
      .all<[PeerId, number, string, string]>(
        `SELECT origin, size, note, frontier FROM checkpoints ${rest}`,
        ...parameters,
      )
      .map(([origin, size, note, frontier]) => ({ origin, size, note, frontier }));
  // Logs of before have no such table until an agent opens them.
  const exists = (): boolean =>
    queries.get("SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'checkpoints'") !== undefined;

  return {
    latest: (origin, upTo = Number.MAX_SAFE_INTEGER) =>
      read('WHERE origin = ? AND size <= ? ORDER BY size DESC LIMIT 1', origin, upTo)[0],
    all: () => (exists() ? read('ORDER BY origin, size') : []),
    *hashes(origin, after, until) {
      for (let at = after; at < until; ) {
        const rows = lookUp(queries, {
          terms: [
            ['origin', '= ?', origin],
            ['stream', '= ?', 'config'],
            ['seq', '> ?', at],
            ['seq', '<= ?', until],
          ],
          order: 'seq',
          limit: PAGE,
        });
        if (rows.length === 0) throw damaged(path, `event ${at + 1} of ${origin} is missing`);
        for (const row of rows) {
          // A damaged row must not become a signed accusation.
          if (!isIntact(row)) throw damaged(path, 'the stored row does not match its checksum', row[0]);
          yield Buffer.from(row[4], 'hex');
        }
        at += rows.length;
      }
    },
  };
}
