import { closeSync, fstatSync, openSync, writeSync } from 'node:fs';

/** A piece is as large as the file so far, between these, bytes. The larger is written and synced in 3 ms. */
const LEAST_BYTES = 256 * 2 ** 10;
const MOST_BYTES = 2 ** 20;
/** Commits between looks at the size of the file: a look costs 2 us. */
const LOOK_EVERY = 16;
const ZEROS = Buffer.alloc(LEAST_BYTES);

/**
 * Lays out the -wal file ahead of SQLite. A sync of a file that grew writes its new blocks into the journal of the file system
 * as well, which doubles the time of a durable append; over blocks that are there it does not. SQLite comes to that by itself
 * once the file has gone round, after thousands of appends. Zeros beyond its end are no frames to it: a frame counts only with
 * the salts and the checksum of its file (https://sqlite.org/fileformat2.html#walformat).
 */
export interface WalLayout {
  /** Call after each commit, in the same tick. Never throws: without it appends are slower, and that is all. */
  committed(): void;
}

/** `limit` is the size the file has when it goes round, bytes. */
export function createWalLayout(path: string, limit: number): WalLayout {
  let laidOut = 0;
  let commits = 0;
  let given = false;
  return {
    committed() {
      if (given || commits++ % LOOK_EVERY !== 0) return;
      try {
        const fd = openSync(`${path}-wal`, 'r+');
        try {
          const { size } = fstatSync(fd);
          given = size >= limit;
          // Within what was laid out already.
          if (given || size <= laidOut) return;
          laidOut = Math.min(limit, size + Math.min(MOST_BYTES, Math.max(LEAST_BYTES, size)));
          for (let at = size; at < laidOut; at += ZEROS.length)
            writeSync(fd, ZEROS, 0, Math.min(ZEROS.length, laidOut - at), at);
        } finally {
          closeSync(fd);
        }
      } catch {
        // A full disk, say. SQLite meets it too and reports it.
        given = true;
      }
    },
  };
}
