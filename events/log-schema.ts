import {
  chmodSync,
  closeSync,
  copyFileSync,
  existsSync,
  fchmodSync,
  mkdtempSync,
  openSync,
  rmSync,
  statSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import Database from 'better-sqlite3';
import { CHECKPOINT_TABLE } from './log-checkpoints.ts';
import { damaged, LogError, logError, sqliteCode } from './log-errors.ts';
import { KEYS_TABLE } from './log-keys.ts';
import { liftFormat, readFormatOne } from './log-migrate.ts';

/** 'ARCT', in the header of the file: `file arctic.db` names it, and we know our own from other databases. */
const APPLICATION_ID = 0x41524354;
/** Goes up with every change of the tables; an agent refuses a database with a higher one. */
export const SCHEMA_VERSION = 3;
const OWNER_ONLY = 0o600;
/** Waits this long for a reader's checkpoint or an online backup, ms. */
const BUSY_TIMEOUT_MS = 5_000;
/**
 * Pages (4 KiB) in the -wal file before they are moved into the database. An append dirties one or two, mostly the same
 * ones again, so the default of 1,000 would move them, with two more syncs, every 600 appends. 16 MiB are recovered in 20 ms.
 */
export const CHECKPOINT_PAGES = 4_000;
/** A page in the -wal file with its header, and how many a transaction may go past the limit before they are moved. */
const FRAME_BYTES = 4_096 + 24;
const FRAMES_OVER = 64;
/** What the -wal file grows to when no reader holds it up, bytes. */
export const WAL_BYTES = 32 + (CHECKPOINT_PAGES + FRAMES_OVER) * FRAME_BYTES;
/** A -wal file that a slow reader let grow is cut back to this, bytes. */
const WAL_BYTES_KEPT = 64 * 2 ** 20;

/**
 * `events` is the truth; the rest can be derived from it or dropped. `body` holds exactly the bytes that were hashed; what
 * is looked up by content stands in `event_keys` (log-keys.ts) as well. Ids are indexed without UNIQUE: an id is unique by
 * honest behaviour, and refusing a second one would let a peer block another's history by copying its ids.
 * `recorded_at_ms` is this host's wall clock at the append; `checksum` is CRC-32 over the row as stored, so that a
 * damaged sector is noticed by every read, not only by verification. Neither is part of the event.
 * `chain_heads` (log-heads.ts) lags behind by what has no keys yet; its `public_key` (base64) is the key that was pinned when
 * the first event of that origin came in.
 */
const TABLES = `
CREATE TABLE events (
  position INTEGER PRIMARY KEY,
  recorded_at_ms INTEGER NOT NULL,
  checksum INTEGER NOT NULL,
  body TEXT NOT NULL,
  hash TEXT NOT NULL,
  signature TEXT
) STRICT;
CREATE TRIGGER events_no_update BEFORE UPDATE ON events
BEGIN SELECT RAISE(ABORT, 'the event log is append-only: events are never changed'); END;
CREATE TRIGGER events_no_delete BEFORE DELETE ON events
BEGIN SELECT RAISE(ABORT, 'the event log is append-only: events are never deleted'); END;
CREATE TABLE chain_heads (
  origin TEXT NOT NULL,
  stream TEXT NOT NULL,
  seq INTEGER NOT NULL,
  hash TEXT NOT NULL,
  hlc TEXT NOT NULL,
  public_key TEXT NOT NULL,
  PRIMARY KEY (origin, stream)
) STRICT, WITHOUT ROWID;
CREATE TABLE idempotency (
  key TEXT PRIMARY KEY,
  first_position INTEGER NOT NULL REFERENCES events (position),
  last_position INTEGER NOT NULL REFERENCES events (position),
  created_at_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX idempotency_age ON idempotency (created_at_ms);
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE snapshots (
  name TEXT NOT NULL,
  position INTEGER NOT NULL,
  digest TEXT NOT NULL,
  fold_version INTEGER NOT NULL,
  state BLOB NOT NULL,
  PRIMARY KEY (name, position)
) STRICT;
`;

/** What a new log is born with. */
export interface Birth {
  readonly origin: string;
  /** Base64. */
  readonly publicKey: string;
  readonly createdAtMs: number;
}

/** Opens for writing, creating the tables of a new log; `birth` is asked only then. */
export function openDatabase(path: string, birth: () => Birth): Database.Database {
  restrictToOwner(path);
  let db: Database.Database | undefined;
  try {
    db = new Database(path, { timeout: BUSY_TIMEOUT_MS });
    const format = formatOf(path, db);
    db.pragma('journal_mode = WAL');
    db.pragma('synchronous = FULL');
    db.pragma(`wal_autocheckpoint = ${CHECKPOINT_PAGES}`);
    db.pragma(`journal_size_limit = ${WAL_BYTES_KEPT}`);
    db.pragma('foreign_keys = ON');
    // Never trust functions or virtual tables that a tampered schema might name.
    db.pragma('trusted_schema = OFF');
    db.pragma('cell_size_check = ON');
    if (format === undefined) create(db, birth());
    else if (format < SCHEMA_VERSION) liftFormat(db, format, SCHEMA_VERSION);
    db.exec(CHECKPOINT_TABLE);
    return db;
  } catch (error) {
    db?.close();
    throw logError(path, 'open', error);
  }
}

/** Opens for reading only: a live agent's log, or a copy, also on read-only media. */
export function openDatabaseReadOnly(path: string): Database.Database {
  if (!existsSync(path)) throw new LogError('unusable', path, `there is no event log at ${path}`);
  let db: Database.Database | undefined;
  try {
    db = openForReading(path);
    const format = formatOf(path, db);
    if (format === undefined) throw new LogError('foreign', path, `${path} is empty: it holds no event log`);
    if (format === 1) readFormatOne(db);
    return db;
  } catch (error) {
    db?.close();
    throw logError(path, 'read', error);
  }
}

function openForReading(path: string): Database.Database {
  const db = new Database(path, { readonly: true, timeout: BUSY_TIMEOUT_MS });
  try {
    db.pragma('user_version');
    return db;
  } catch (error) {
    db.close();
    const code = sqliteCode(error) ?? '';
    if (!code.startsWith('SQLITE_CANTOPEN') && !code.startsWith('SQLITE_READONLY')) throw error;
    return openCopy(path);
  }
}

/**
 * SQLite reads a database in WAL mode only where it can make the -shm file beside it, so one on read-only media is read
 * from a private copy. On media that cannot be written nothing changes while it is copied. The copy has no name any more
 * once it is open, so it goes with the process, however that ends.
 */
function openCopy(path: string): Database.Database {
  const directory = mkdtempSync(join(tmpdir(), 'arctic-log-'));
  try {
    const copy = join(directory, 'arctic.db');
    for (const suffix of ['', '-wal']) {
      if (!existsSync(path + suffix)) continue;
      copyFileSync(path + suffix, copy + suffix);
      chmodSync(copy + suffix, OWNER_ONLY);
    }
    const db = new Database(copy, { readonly: true });
    db.pragma('user_version');
    return db;
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

/** Format of a log; undefined for a database without tables. Throws for one that is not ours or newer than we are. */
function formatOf(path: string, db: Database.Database): number | undefined {
  const application = db.pragma('application_id', { simple: true });
  const version = db.pragma('user_version', { simple: true });
  const tables = db.prepare('SELECT count(*) FROM sqlite_schema').pluck().get();
  if (application === 0 && version === 0 && tables === 0) return undefined;
  if (application !== APPLICATION_ID) {
    throw new LogError(
      'foreign',
      path,
      `${path} is a SQLite database, but not an Arctic event log; point DATA_DIR elsewhere`,
    );
  }
  if (typeof version !== 'number' || version > SCHEMA_VERSION) {
    throw new LogError(
      'newer',
      path,
      `the event log ${path} has format ${version}, this agent knows up to ${SCHEMA_VERSION}: ` +
        'it was written by a newer Arctic. Install that version again, or restore a backup made before the upgrade',
    );
  }
  if (version < 1 || tables === 0)
    throw damaged(path, `its format number is ${version}, which never existed`);
  return version;
}

function create(db: Database.Database, birth: Birth): void {
  db.transaction(() => {
    db.exec(TABLES);
    db.exec(KEYS_TABLE);
    const put = db.prepare('INSERT INTO meta (key, value) VALUES (?, ?)');
    put.run('peer_id', birth.origin);
    put.run('public_key', birth.publicKey);
    put.run('created_at_ms', String(birth.createdAtMs));
    db.pragma(`application_id = ${APPLICATION_ID}`);
    db.pragma(`user_version = ${SCHEMA_VERSION}`);
  }).immediate();
}

/** The file is private before it has content; SQLite gives -wal and -shm the mode of the database. */
function restrictToOwner(path: string): void {
  try {
    if (existsSync(path)) {
      if ((statSync(path).mode & 0o777) !== OWNER_ONLY) chmodSync(path, OWNER_ONLY);
      return;
    }
    const fd = openSync(path, 'a', OWNER_ONLY);
    fchmodSync(fd, OWNER_ONLY);
    closeSync(fd);
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw new LogError(
      'unusable',
      path,
      `cannot open the event log ${path}: ${reason}. The directory ${dirname(path)} must exist and the agent must own it`,
      { cause: error },
    );
  }
}
