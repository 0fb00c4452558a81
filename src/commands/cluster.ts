import type { ClusterId } from '../../events/brand.ts';
import { ArcticError } from '../../events/errors.ts';
import type { LockView, Views } from '../../projections/views.ts';
import type { Decision, DecisionContext } from './decision.ts';
import { notBootstrapped, requireChangeable, requireWritable } from './gate.ts';

/** Bounds of a lease, milliseconds: long enough for one round of writes, short enough that a dead holder is no nuisance. */
export const LOCK_MIN_MS = 5_000;
export const LOCK_MAX_MS = 3_600_000;
export const LOCK_DEFAULT_MS = 60_000;

/** Writes the cluster record again; for a cluster that has one, only when forced. */
export function decideInitCluster(
  views: Views,
  force: boolean,
  context: DecisionContext,
): Decision<ClusterId> {
  requireChangeable(views, context);
  const id = views.cluster().cluster_id;
  if (id === undefined) throw notBootstrapped();
  if (!force) {
    throw new ArcticError(
      'ALREADY_EXISTS',
      `cluster ${id} is initialised already; to write its record again use: arctic cluster init --force`,
    );
  }
  return {
    events: [{ type: 'cluster.initialised', entity: id, data: { cluster_id: id, forced: true } }],
    result: id,
  };
}

/** The lock if its lease has not run out. */
export function liveLock(views: Views, now: number): LockView | undefined {
  const { lock } = views.cluster();
  return lock !== undefined && lock.expires_at_ms > now ? lock : undefined;
}

/**
 * Takes the cluster lock, or renews it for the holder of its present fence. A lease of the log, not a consensus: the two
 * halves of a partition can both grant one; the fence then tells at the merge which writes came under which.
 */
export function decideAcquireLock(
  views: Views,
  command: { readonly holder: string; readonly purpose: string; readonly ttlMs: number },
  context: DecisionContext,
): Decision<number> {
  requireWritable(views, context);
  const { cluster_id, last_fence } = views.cluster();
  if (cluster_id === undefined) throw notBootstrapped();
  const live = liveLock(views, context.now);
  if (live !== undefined && live.fence !== context.fence) {
    throw new ArcticError(
      'CLUSTER_LOCKED',
      `the cluster is locked by ${live.holder} (${live.purpose}) until ${new Date(live.expires_at_ms).toISOString()}; ` +
        'try again then, or free it with: arctic cluster unlock',
    );
  }
  const fence = last_fence + 1;
  const ttlMs = Math.min(LOCK_MAX_MS, Math.max(LOCK_MIN_MS, command.ttlMs));
  return {
    events: [
      {
        type: 'cluster.lock_acquired',
        entity: cluster_id,
        data: {
          fence,
          holder: command.holder,
          purpose: command.purpose,
          expires_at_ms: context.now + ttlMs,
        },
      },
    ],
    result: fence,
  };
}

/** Gives the lock back, or breaks it when the caller does not hold it. */
export function decideReleaseLock(
  views: Views,
  context: DecisionContext,
): Decision<{ readonly broken: boolean }> {
  requireWritable(views, context);
  const { cluster_id } = views.cluster();
  if (cluster_id === undefined) throw notBootstrapped();
  const live = liveLock(views, context.now);
  if (live === undefined) throw new ArcticError('NOT_FOUND', 'nobody holds the cluster lock.');
  const broken = live.fence !== context.fence;
  return {
    events: [{ type: 'cluster.lock_released', entity: cluster_id, data: { fence: live.fence, broken } }],
    result: { broken },
  };
}
