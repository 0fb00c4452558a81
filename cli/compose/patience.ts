import { setTimeout as sleep } from 'node:timers/promises';
import type { Clock } from '../../events/clock.ts';
import { EXIT } from '../../events/errors.ts';
import { Failure, Refusal } from '../failure.ts';

/** An agent that systemd starts again is back well within this. */
const PATIENCE_MS = 30_000;
const RETRY_MS = 500;

/** Nothing answered, or the agent is not ready: the same may be asked again. */
const isTransient = (error: unknown): boolean =>
  error instanceof Refusal
    ? error.code === 'UNAVAILABLE'
    : error instanceof Failure && error.exit === EXIT.connection;

/** Repeats what an agent that restarts could not answer, until it is back. Only for what may be done twice. */
export async function patiently<T>(clock: Clock, run: () => Promise<T>): Promise<T> {
  const limit = clock.monotonic() + PATIENCE_MS;
  for (;;) {
    try {
      return await run();
    } catch (error) {
      if (!isTransient(error) || clock.monotonic() > limit) throw error;
      await sleep(RETRY_MS);
    }
  }
}
