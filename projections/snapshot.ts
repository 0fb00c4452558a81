import { hash } from 'node:crypto';
import { finished } from 'node:stream/promises';
import { createDeflateRaw, deflateRawSync, inflateRawSync } from 'node:zlib';
import type { Position } from '../events/brand.ts';
import type { Log } from '../events/log-contract.ts';
import { FOLD_VERSION, Fold } from './fold.ts';

const NAME = 'views';
/** SHA-256 of the rest stands first: a damaged snapshot must be passed over, never believed. */
const CHECK_LENGTH = 32;
/** The fastest: the text halves and halves again as it is. */
const LEVEL = { level: 1 } as const;
/** More than most pieces of text take. */
const PIECE_BYTES = 1024 * 1024;

/** Writes the fold as it is now, at once. */
export function storeSnapshot(snapshots: Log['snapshots'], fold: Fold, position: Position): void {
  const digest = fold.digest();
  put(snapshots, position, digest, deflateRawSync(fold.encode(), LEVEL));
}

/**
 * Writes the fold as it is now, a few milliseconds at a time. `isWanted` is asked between the turns; false: nothing was
 * written.
 */
export async function storeSnapshotInTurns(
  snapshots: Log['snapshots'],
  fold: Fold,
  position: Position,
  isWanted: () => boolean,
): Promise<boolean> {
  const digest = fold.digest();
  const deflate = createDeflateRaw(LEVEL);
  const compressed: Buffer[] = [];
  deflate.on('data', (chunk: Buffer) => compressed.push(chunk));
  const done = finished(deflate);
  // Not wanted any more, it ends before it is done.
  done.catch(() => undefined);
  try {
    // One for all pieces: 100,000 routes are 20 MB of text, which nobody would give back before the next collection.
    let room = Buffer.allocUnsafeSlow(PIECE_BYTES);
    for (const piece of fold.encodeInTurns()) {
      const length = Buffer.byteLength(piece);
      if (length > room.length) room = Buffer.allocUnsafeSlow(length);
      room.write(piece);
      await new Promise<void>((resolve, reject) => {
        deflate.write(room.subarray(0, length), (error) => (error ? reject(error) : resolve()));
      });
      await new Promise((resolve) => setImmediate(resolve));
      if (!isWanted()) return false;
    }
    deflate.end();
    await done;
  } finally {
    deflate.destroy();
  }
  if (!isWanted()) return false;
  put(snapshots, position, digest, Buffer.concat(compressed));
  return true;
}

function put(snapshots: Log['snapshots'], position: Position, digest: string, state: Buffer): void {
  const check = hash('sha256', state, 'buffer');
  snapshots.put(NAME, { position, digest, foldVersion: FOLD_VERSION, state: Buffer.concat([check, state]) });
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
    return { fold: Fold.decode(inflateRawSync(state)), position: row.position };
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    onProblem(`snapshot of position ${row.position} cannot be read (${reason}); folding the log instead`);
    return undefined;
  }
}
