import { randomBytes } from 'node:crypto';
import { closeSync, fsyncSync, linkSync, openSync, renameSync, unlinkSync, writeSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { ArcticError } from '../../events/errors.ts';

/**
 * Writes a file that only its owner may read (0600), whole or not at all: a crash leaves the old one, or none.
 * `replace: false` refuses with ALREADY_EXISTS when the name is taken, without a window between look and write.
 */
export function writePrivateFile(path: string, text: string, options: { readonly replace: boolean }): void {
  const directory = dirname(path);
  const temporary = join(directory, `.${basename(path)}.${process.pid}.${randomBytes(6).toString('hex')}`);
  try {
    const file = openSync(temporary, 'wx', 0o600);
    try {
      writeSync(file, text);
      fsyncSync(file);
    } finally {
      closeSync(file);
    }
    if (options.replace) {
      renameSync(temporary, path);
    } else {
      linkSync(temporary, path);
      unlinkSync(temporary);
    }
    syncDirectory(directory);
  } catch (error) {
    try {
      unlinkSync(temporary);
    } catch {
      // It was renamed, or never made.
    }
    throw fileRefusal('write', path, error);
  }
}

/** Makes a new or renamed entry survive a power failure. */
export function syncDirectory(directory: string): void {
  const handle = openSync(directory, 'r');
  try {
    fsyncSync(handle);
  } finally {
    closeSync(handle);
  }
}

const REMEDY: Readonly<Record<string, string>> = {
  EACCES: 'permission denied; run the agent as root, or give its user the directory',
  EPERM: 'not permitted; run the agent as root, or give its user the directory',
  EROFS: 'the file system is read-only; choose a directory that can be written',
  ENOSPC: 'the disk is full; free some space',
  ENOENT: 'no such file or directory; create the directory first',
  ENOTDIR: 'a part of the path is not a directory',
  EISDIR: 'it is a directory',
};

/** The sentence for a failed file operation: what, on which file, why, what to do. */
export function fileRefusal(verb: 'read' | 'write', path: string, error: unknown): ArcticError {
  if (error instanceof ArcticError) return error;
  const code = error instanceof Error && 'code' in error ? String(error.code) : '';
  if (code === 'EEXIST')
    return new ArcticError('ALREADY_EXISTS', `${path} exists already; it was left as it is.`);
  const why = REMEDY[code] ?? (error instanceof Error ? error.message : String(error));
  return new ArcticError('UNAVAILABLE', `cannot ${verb} ${path}: ${why}.`, [], { cause: error });
}
