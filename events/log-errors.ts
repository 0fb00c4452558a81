import { ArcticError, EXIT } from './errors.ts';

export type LogTrouble =
  /** Content, links or the file itself do not verify. */
  | 'damaged'
  /** Written by a newer Arctic. */
  | 'newer'
  /** Not an Arctic log, or that of another identity. */
  | 'foreign'
  /** Another agent has it open. */
  | 'in-use'
  /** The operating system refuses: permissions, a missing directory, a full disk, an I/O error. */
  | 'unusable';

/** The log cannot be opened or trusted. The agent stops and says so; nothing is repaired behind the operator's back. */
export class LogError extends ArcticError {
  readonly trouble: LogTrouble;
  readonly path: string;
  /** First position that does not verify, where it is known. */
  readonly position: number | undefined;

  constructor(
    trouble: LogTrouble,
    path: string,
    message: string,
    options: ErrorOptions & { readonly position?: number } = {},
  ) {
    super('UNAVAILABLE', message, [], options);
    this.name = 'LogError';
    this.trouble = trouble;
    this.path = path;
    this.position = options.position;
  }

  override get exit(): number {
    return EXIT.configuration;
  }
}

/** The refusal of a log that does not verify, with both ways out. */
export function damaged(path: string, reason: string, position?: number, cause?: unknown): LogError {
  const where = position === undefined ? '' : ` at position ${position}`;
  return new LogError(
    'damaged',
    path,
    `the event log ${path} does not verify${where}: ${reason}. Nothing was changed. Restore a backup with ` +
      `\`arctic restore FILE\`, or set the log aside with \`mv ${path} ${path}.damaged\` and bootstrap or join again`,
    { ...(position === undefined ? {} : { position }), cause },
  );
}

/** SQLite's result code of an error (`SQLITE_FULL`, `SQLITE_IOERR_FSYNC`); undefined for any other error. */
export function sqliteCode(error: unknown): string | undefined {
  if (!(error instanceof Error) || !('code' in error) || typeof error.code !== 'string') return undefined;
  return error.code.startsWith('SQLITE_') ? error.code : undefined;
}

const REASONS: readonly (readonly [prefix: string, trouble: LogTrouble, reason: string])[] = [
  ['SQLITE_FULL', 'unusable', 'the disk is full; free some space, then it goes on by itself'],
  [
    'SQLITE_READONLY',
    'unusable',
    'the file or its directory is read-only; give the agent write access to both',
  ],
  [
    'SQLITE_CANTOPEN',
    'unusable',
    'it cannot be opened; check that the directory exists and the agent may write to it',
  ],
  ['SQLITE_PERM', 'unusable', 'the agent may not access it; check owner and mode'],
  ['SQLITE_AUTH', 'unusable', 'the agent may not access it; check owner and mode'],
  ['SQLITE_IOERR', 'unusable', 'the disk reports an input/output error; check the disk and the kernel log'],
  ['SQLITE_NOMEM', 'unusable', 'the host is out of memory'],
  ['SQLITE_BUSY', 'in-use', 'another process holds it; stop the other agent, or wait for the backup to end'],
  [
    'SQLITE_LOCKED',
    'in-use',
    'another process holds it; stop the other agent, or wait for the backup to end',
  ],
];

/** Gives an error of SQLite its sentence; any other error is returned as it is. */
export function logError(path: string, doing: string, error: unknown): unknown {
  const code = sqliteCode(error);
  if (code === undefined || error instanceof ArcticError) return error;
  const text = error instanceof Error ? error.message : code;
  if (code.startsWith('SQLITE_CORRUPT'))
    return damaged(path, `the database file is corrupt (${text})`, undefined, error);
  if (code === 'SQLITE_NOTADB') {
    return damaged(path, 'it is not a SQLite database, or its header was overwritten', undefined, error);
  }
  // Our statements are fixed and tested: a complaint about one means that tables or stored JSON are not what we wrote.
  if (code === 'SQLITE_ERROR') return damaged(path, `its content cannot be read (${text})`, undefined, error);
  const row = REASONS.find(([prefix]) => code.startsWith(prefix));
  if (row === undefined)
    return new ArcticError('INTERNAL', `cannot ${doing} ${path}: ${text} (${code})`, [], { cause: error });
  return new LogError(row[1], path, `cannot ${doing} the event log ${path}: ${row[2]} (${code})`, {
    cause: error,
  });
}
