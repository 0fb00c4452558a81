import type { Position } from '../events/brand.ts';
import type { LogReader } from '../events/log-contract.ts';
import { Fold, VIEW_NAMES } from './fold.ts';
import { foldAll, pagesAfter, settled } from './replay.ts';
import type { Verification } from './runner.ts';
import { loadSnapshot } from './snapshot.ts';

/** As `Verification`, for a log no agent has open: what stands for the live fold is the stored snapshot with the tail. */
export interface OfflineVerification extends Verification {
  /** Null when the log holds no usable snapshot; then there is nothing to compare with. */
  readonly snapshot_position: Position | null;
  readonly problems: readonly string[];
}

/** Folds a log from its first event and compares with what an agent would start from. */
export function verifyFolds(
  log: Pick<LogReader, 'read' | 'pages' | 'head' | 'latestSnapshot'>,
): Promise<OfflineVerification> {
  const problems: string[] = [];
  const stored = log.latestSnapshot('views');
  const snapshot = loadSnapshot({ latest: log.latestSnapshot }, log.head, (reason) => problems.push(reason));
  let start = snapshot?.fold ?? new Fold();
  if (snapshot !== undefined && stored !== undefined && stored.digest !== start.digest())
    problems.push(`snapshot of position ${snapshot.position} does not have the digest it was stored with`);
  for (const page of pagesAfter(log, snapshot?.position ?? (0 as Position)))
    for (const event of page) start.apply(event);
  start = settled(start, () => pagesAfter(log, 0 as Position));
  return foldAll(log, (fold, position, events) => {
    const differing = VIEW_NAMES.filter((name) => fold.digest(name) !== start.digest(name));
    return {
      matches: differing.length === 0 && problems.length === 0,
      position,
      events,
      live_digest: start.digest(),
      replayed_digest: fold.digest(),
      differing,
      snapshot_position: snapshot?.position ?? null,
      problems,
    };
  });
}
