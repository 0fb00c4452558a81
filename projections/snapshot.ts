import { hash } from 'node:crypto';
import type { Position } from '../events/brand.ts';
import type { Log } from '../events/log-contract.ts';
import { FOLD_VERSION, Fold } from './fold.ts';

const NAME = 'views';
/** SHA-256 of the rest stands first: a damaged snapshot must be passed over, never believed. */
const CHECK_LENGTH = 32;

/** Writes the fold as it is at a position. */
export function storeSnapshot(
  snapshots: Log['snapshots'],
  fold: Fold,
  position: Position,
  foldVersion: number,
): void {
  const state = fold.encode();
  const check = hash('sha256', state, 'buffer');
  snapshots.put(NAME, { position, digest: fold.digest(), foldVersion, state: Buffer.concat([check, state]) });
}

/** The newest usable snapshot, or undefined: one of another fold, of a longer log or damaged is not used. */
export function loadSnapshot(
  snapshots: Pick<Log['snapshots'], 'latest'>,
  head: Position,
  onProblem: (reason: string) => void,
): { readonly fold: Fold; readonly position: Position } | undefined {
  const row = snapshots.latest(NAME);
  if (row === undefined || row.foldVersion !== FOLD_VERSION) return undefined;
  if (row.position > head) {
    onProblem(
      `snapshot of position ${row.position} is newer than the log (${head}); folding the log instead`,
    );
    return undefined;
  }
  const state = row.state.subarray(CHECK_LENGTH);
  const check = row.state.subarray(0, CHECK_LENGTH);
  if (Buffer.compare(hash('sha256', state, 'buffer'), check) !== 0) {
    onProblem(`snapshot of position ${row.position} is damaged; folding the log instead`);
    return undefined;
  }
  try {
    return { fold: Fold.decode(state), position: row.position };
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    onProblem(`snapshot of position ${row.position} cannot be read (${reason}); folding the log instead`);
    return undefined;
  }
}
