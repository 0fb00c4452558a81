import { type ArcticError, ERRORS, type ErrorCode, type ErrorDetail, EXIT } from '../events/errors.ts';

/** A refusal with its exit code (SPEC section 6). The message is one clear line without the `Error: ` before it. */
export class Failure extends Error {
  readonly exit: number;
  readonly details: readonly ErrorDetail[];

  constructor(exit: number, message: string, details: readonly ErrorDetail[] = [], options?: ErrorOptions) {
    super(message, options);
    this.name = 'Failure';
    this.exit = exit;
    this.details = details;
  }
}

export const usageFailure = (message: string): Failure => new Failure(EXIT.usage, message);
export const configurationFailure = (message: string): Failure => new Failure(EXIT.configuration, message);
export const connectionFailure = (message: string, cause?: unknown): Failure =>
  new Failure(EXIT.connection, message, [], { cause });

/** A refusal that came from the API, with its code so that a command can act on one of them. */
export class Refusal extends Failure {
  readonly code: string;
  readonly status: number;

  constructor(status: number, code: string, message: string, details: readonly ErrorDetail[] = []) {
    super(exitOf(code, status), message, details);
    this.name = 'Refusal';
    this.code = code;
    this.status = status;
  }
}

const isErrorCode = (code: string): code is ErrorCode => Object.hasOwn(ERRORS, code);

/** The exit code of an API code; for a code of a newer agent, that of its HTTP status. */
function exitOf(code: string, status: number): number {
  if (isErrorCode(code)) return ERRORS[code].exit;
  if (status === 401 || status === 403) return EXIT.authentication;
  if (status === 400) return EXIT.usage;
  if (status === 502 || status === 503 || status === 504) return EXIT.connection;
  return EXIT.general;
}

const systemReasons: Readonly<Record<string, string>> = {
  EACCES: 'permission denied',
  EEXIST: 'the file exists already',
  EISDIR: 'it is a directory',
  ENOENT: 'no such file or directory',
  ENOSPC: 'no space left on the device',
  ENOTDIR: 'a part of the path is not a directory',
  EPERM: 'operation not permitted',
  EROFS: 'the file system is read-only',
};

/** A system call's error in words: `permission denied`, or its own text when it is a rare one. */
export function systemReason(error: unknown): string {
  const code = errorCode(error);
  return (
    (code === undefined ? undefined : systemReasons[code]) ??
    (error instanceof Error ? error.message : String(error))
  );
}

/** The `code` of a system error. */
export function errorCode(error: unknown): string | undefined {
  if (typeof error !== 'object' || error === null || !('code' in error)) return undefined;
  return typeof error.code === 'string' ? error.code : undefined;
}

const isArcticError = (error: Error): error is ArcticError =>
  (error.name === 'ArcticError' || error.name === 'LogError') &&
  'exit' in error &&
  typeof error.exit === 'number';

/** Meant for the person, and not a fault of the program. */
export const isRefusal = (error: unknown): boolean =>
  error instanceof Failure || (error instanceof Error && isArcticError(error));

/** Anything thrown, as a refusal. A fault of our own gets one line too; `--debug` shows its stack. */
export function toFailure(error: unknown): Failure {
  if (error instanceof Failure) return error;
  if (error instanceof Error && isArcticError(error))
    return new Failure(error.exit, error.message, error.details, { cause: error });
  const path = typeof error === 'object' && error !== null && 'path' in error ? ` ${String(error.path)}` : '';
  const code = errorCode(error);
  if (code !== undefined && systemReasons[code] !== undefined)
    return new Failure(EXIT.general, `cannot use${path || ' a file'}: ${systemReasons[code]}`, [], {
      cause: error,
    });
  const text = error instanceof Error ? error.message : String(error);
  return new Failure(EXIT.general, text.split('\n')[0] ?? 'unknown fault', [], { cause: error });
}
