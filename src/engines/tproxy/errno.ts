import { constants } from 'node:os';

const NUMBERS: Readonly<Record<string, number>> = constants.errno;

/** Number of an error's `code`; ECONNABORTED when it has none, so that the other side still learns of a failure. */
export function errnoOf(error: unknown): number {
  const code =
    typeof error === 'object' && error !== null && 'code' in error ? String(error.code) : 'ECONNABORTED';
  return NUMBERS[code] ?? constants.errno.ECONNABORTED;
}
