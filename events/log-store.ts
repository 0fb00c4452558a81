import type Database from 'better-sqlite3';
import type { AnyEvent } from './envelope.ts';
import type { PinnedChain } from './log-contract.ts';
import { logError } from './log-errors.ts';
import { chainKey, createHeadWriter, readHeads } from './log-heads.ts';
import { createKeyWriter } from './log-keys.ts';
import { type EventRow, INSERT_EVENT } from './log-rows.ts';
import { WAL_BYTES } from './log-schema.ts';
import { createWalLayout } from './log-wal.ts';
import type { RowQueries } from './row-queries.ts';

/** The tables an append writes, and what of them is kept in memory. */
export interface Store {
  /** Of the newest event; 0 when there is none. */
  readonly position: number;
  /** Where each chain ends, by `chainKey`. */
  readonly heads: ReadonlyMap<string, PinnedChain>;
  /** Runs in one durable transaction, or not at all; whatever SQLite refuses becomes a sentence. */
  durably(run: () => void): void;
  /** Writes events, as rows too, and the heads they lead to, with what else belongs to the transaction. */
  put(
    events: readonly AnyEvent[],
    rows: readonly EventRow[],
    changed: readonly PinnedChain[],
    alsoWrite?: () => void,
  ): void;
  /** Writes what lags behind, so that the next start reads no tail. What cannot be written now is read off the events then. */
  settle(): void;
}

export function createStore(db: Database.Database, queries: RowQueries, path: string): Store {
  const insertEvent = db.prepare(INSERT_EVENT);
  const putHeads = createHeadWriter(db);
  const layout = createWalLayout(path, WAL_BYTES);
  // Made once: better-sqlite3 builds four functions for each.
  const transaction = db.transaction((run: () => void) => run());
  const heads = new Map<string, PinnedChain>();
  for (const head of readHeads(queries)) heads.set(chainKey(head.origin, head.stream), head);
  /** Heads that may be further than `chain_heads` says. */
  const ahead = new Map(heads);
  const keys = createKeyWriter(db, queries, () => putHeads(heads.values()));
  let position = queries.get<[number | null]>('SELECT max(position) FROM events')?.[0] ?? 0;

  const durably = (run: () => void): void => {
    try {
      transaction.immediate(run);
    } catch (error) {
      throw logError(path, 'write to', error);
    }
    layout.committed();
  };
  /** For one event and nothing else: a statement is a transaction by itself, and a quicker one. */
  const durablyOne = (row: EventRow): void => {
    try {
      insertEvent.run(row);
    } catch (error) {
      throw logError(path, 'write to', error);
    }
    layout.committed();
  };

  return {
    get position() {
      return position;
    },
    heads,
    durably,
    put(events, rows, changed, alsoWrite) {
      const full = keys.due(events.length);
      const born = changed.some((head) => !heads.has(chainKey(head.origin, head.stream)));
      const [only] = rows;
      if (rows.length === 1 && only !== undefined && !full && !born && alsoWrite === undefined) {
        durablyOne(only);
      } else {
        durably(() => {
          for (const row of rows) insertEvent.run(row);
          if (full) {
            keys.write(events);
            putHeads(ahead.values());
          }
          if (full || born) putHeads(changed);
          alsoWrite?.();
        });
      }
      // In memory only after the commit.
      keys.done(events, full);
      if (full) ahead.clear();
      for (const head of changed) {
        const key = chainKey(head.origin, head.stream);
        heads.set(key, head);
        if (!full) ahead.set(key, head);
      }
      position += rows.length;
    },
    settle() {
      try {
        transaction.immediate(() => {
          keys.write([]);
          putHeads(ahead.values());
        });
      } catch {
        return;
      }
    },
  };
}
