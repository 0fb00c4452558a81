import type { PeerId } from '../../events/brand.ts';
import type { Clock, Random } from '../../events/clock.ts';
import type { Actor, AnyEvent } from '../../events/envelope.ts';
import { ArcticError } from '../../events/errors.ts';
import type { Ids } from '../../events/ids.ts';
import type { Log } from '../../events/log-contract.ts';
import type { Views } from '../../projections/views.ts';
import type { Decision, DecisionContext } from './decision.ts';

/** Who asks, and under which conditions. */
export interface CommandRequest {
  readonly actor: Actor;
  readonly correlationId: string;
  /** Makes the command happen once however often it is sent. Already scoped to the caller. */
  readonly idempotencyKey?: string | undefined;
  /** The version the caller has seen (If-Match); CONFLICT when the entity has moved on. */
  readonly expected?: { readonly entity: string; readonly version: number } | undefined;
  /** Number of the cluster lock the caller holds. */
  readonly fence?: number | undefined;
}

export interface Executed<Result> {
  /** What was appended; empty when the command asked for what is already so. */
  readonly events: readonly AnyEvent[];
  /** What the decision says; undefined when an earlier request with the same idempotency key did it all. */
  readonly result: Result | undefined;
}

export interface Executor {
  /**
   * Decides and appends in one tick, so nothing can come between what the decision saw and what it wrote. Refusals are
   * ArcticErrors; a log that cannot be written is UNAVAILABLE, and then nothing has changed.
   */
  execute<Result>(
    request: CommandRequest,
    decide: (views: Views, context: DecisionContext) => Decision<Result>,
  ): Executed<Result>;
}

export function createExecutor(deps: {
  readonly log: Log;
  readonly views: Views;
  readonly clock: Clock;
  readonly ids: Ids;
  readonly random: Random;
  readonly localPeer: PeerId;
}): Executor {
  const { log, views, clock, ids, random, localPeer } = deps;
  return {
    execute(request, decide) {
      const { actor, correlationId, idempotencyKey, expected, fence } = request;
      try {
        const earlier = idempotencyKey === undefined ? undefined : log.recall(idempotencyKey);
        if (earlier !== undefined) return { events: earlier, result: undefined };
        // Asked before the decision too: a command that changes nothing must still fail on a stale version.
        if (expected !== undefined) refuseStale(expected, log.entityVersion(expected.entity));
        const context = { now: clock.now(), actor, localPeer, ids, fraction: () => random.fraction(), fence };
        const { events, result } = decide(views, context);
        if (events.length === 0) return { events: [], result };
        const appended = log.append(events, {
          actor,
          correlationId,
          ...(idempotencyKey === undefined ? {} : { idempotencyKey }),
          ...(expected === undefined ? {} : { expectedVersion: expected }),
        });
        return { events: appended, result };
      } catch (error) {
        throw isDatabaseError(error) ? unavailable(error) : error;
      }
    },
  };
}

function refuseStale(expected: { readonly entity: string; readonly version: number }, version: number): void {
  if (version === expected.version) return;
  throw new ArcticError(
    'CONFLICT',
    `${expected.entity} is at version ${version}, not ${expected.version}: it changed since you read it; read it again.`,
  );
}

const isDatabaseError = (error: unknown): error is Error & { readonly code: string } =>
  error instanceof Error &&
  'code' in error &&
  typeof error.code === 'string' &&
  error.code.startsWith('SQLITE_');

const unavailable = (error: Error & { readonly code: string }) =>
  new ArcticError(
    'UNAVAILABLE',
    `the event log cannot be written (${error.code}: ${error.message}), so nothing was changed; check the disk of the data directory.`,
    [],
    { cause: error },
  );
