/**
 * Whom the log is measured against: the same bytes through bare better-sqlite3, and `@event-driven-io/emmett-sqlite`,
 * which is installed into a directory of its own for the run and is no dependency of the product.
 */
import { execFileSync } from 'node:child_process';
import { closeSync, existsSync, fstatSync, fsyncSync, mkdirSync, openSync, writeSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import Database from 'better-sqlite3';
import { CHECKPOINT_PAGES, WAL_BYTES } from '../../events/log-schema.ts';

/** The newest pair of which both halves were published with one version number. */
const EMMETT_VERSION = '0.38.5';
const INSTALL_LIMIT_MS = 10 * 60_000;
const ATTEMPTS = 5;

/** A row of the log but for its position: when, checksum, body, hash, signature. */
export type BareRow = readonly [number, number, string, string, string];

export interface BareTable {
  insert(row: BareRow): void;
  insertMany(rows: readonly BareRow[]): void;
  close(): void;
}

/**
 * The log's own table alone, with one prepared insert, the log's pragmas, and its -wal file laid out as the log's is: what
 * SQLite itself takes for a durable row.
 */
export function openBare(path: string): BareTable {
  const db = new Database(path);
  db.pragma('journal_mode = WAL');
  db.pragma('synchronous = FULL');
  db.pragma(`wal_autocheckpoint = ${CHECKPOINT_PAGES}`);
  db.pragma('foreign_keys = ON');
  db.pragma('trusted_schema = OFF');
  db.pragma('cell_size_check = ON');
  db.exec(
    'CREATE TABLE events (position INTEGER PRIMARY KEY, recorded_at_ms INTEGER NOT NULL, checksum INTEGER NOT NULL, ' +
      'body TEXT NOT NULL, hash TEXT NOT NULL, signature TEXT) STRICT',
  );
  const wal = openSync(`${path}-wal`, 'r+');
  const { size } = fstatSync(wal);
  writeSync(wal, Buffer.alloc(WAL_BYTES - size), 0, WAL_BYTES - size, size);
  fsyncSync(wal);
  closeSync(wal);
  const insert = db.prepare(
    'INSERT INTO events (recorded_at_ms, checksum, body, hash, signature) VALUES (?, ?, ?, ?, ?)',
  );
  const insertMany = db.transaction((rows: readonly BareRow[]) => {
    for (const row of rows) insert.run(row);
  });
  return {
    insert: (row) => void insert.run(row),
    insertMany: (rows) => insertMany.immediate(rows),
    close: () => db.close(),
  };
}

export interface EmmettStore {
  readonly version: string;
  /** Appends that had to be repeated because the store was in its own way. */
  readonly busy: number;
  append(stream: string, data: object): Promise<void>;
}

interface EmmettModule {
  getSQLiteEventStore(options: { readonly fileName: string }): {
    appendToStream(
      stream: string,
      events: readonly { readonly type: string; readonly data: object }[],
    ): Promise<unknown>;
  };
}

/** The text says why there is no peer. A second run finds the packages in `directory` and installs nothing. */
export async function openEmmett(directory: string, path: string): Promise<EmmettStore | string> {
  try {
    mkdirSync(directory, { recursive: true });
    if (!existsSync(join(directory, 'node_modules', '@event-driven-io', 'emmett-sqlite'))) {
      const packages = ['emmett', 'emmett-sqlite'].map(
        (name) => `@event-driven-io/${name}@${EMMETT_VERSION}`,
      );
      execFileSync(
        'npm',
        ['install', '--prefix', directory, '--no-audit', '--no-fund', ...packages, 'sqlite3@5'],
        {
          stdio: 'ignore',
          timeout: INSTALL_LIMIT_MS,
        },
      );
    }
    const resolved = createRequire(join(directory, 'index.js')).resolve('@event-driven-io/emmett-sqlite');
    const { getSQLiteEventStore }: EmmettModule = await import(pathToFileURL(resolved).href);
    const store = getSQLiteEventStore({ fileName: path });
    let busy = 0;
    return {
      version: EMMETT_VERSION,
      get busy() {
        return busy;
      },
      async append(stream, data) {
        // It now and then commits while a statement of its own is still open; SQLite answers BUSY and it goes through next time.
        for (let attempt = 1; ; attempt += 1) {
          try {
            await store.appendToStream(stream, [{ type: 'RouteAdded', data }]);
            return;
          } catch (error) {
            if (attempt === ATTEMPTS) throw error;
            busy += 1;
          }
        }
      },
    };
  } catch (error) {
    return error instanceof Error ? (error.message.split('\n')[0] ?? 'unknown reason') : String(error);
  }
}
