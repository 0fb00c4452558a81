import type { Clock } from '../../events/clock.ts';
import type { Actor, ArcticEvent } from '../../events/envelope.ts';
import { type Ids, newCorrelationId } from '../../events/ids.ts';
import type { Log } from '../../events/log-contract.ts';
import type { Views } from '../../projections/views.ts';
import type { Executor } from './execute.ts';
import { decideLicenseState } from './license.ts';
import { type LicenseState, licenseStateAt, nextLicenseChange } from './license-state.ts';

/** The wall clock may be set, so the next change is not slept through in one piece. */
const LONGEST_SLEEP_MS = 3_600_000;
const SYSTEM: Actor = { kind: 'system', id: null, address: null };

export interface LicenseWatch {
  /** Judges the license now and records a change of its state; undefined when there is no license. */
  check(): LicenseState | undefined;
  start(): void;
  stop(): void;
}

/** Keeps the state of the license (SPEC section 8) recorded as it moves with time and with new licenses. */
export function createLicenseWatch(deps: {
  readonly clock: Clock;
  readonly ids: Ids;
  readonly log: Log;
  readonly views: Views;
  readonly executor: Executor;
  /** A recording that failed; it is tried again at the next check. */
  readonly onError: (error: unknown) => void;
}): LicenseWatch {
  const { clock, ids, log, views, executor } = deps;
  let cancel = () => {};
  let unsubscribe = () => {};

  const lastRecorded = (): { licenseId: string; state: LicenseState } | undefined => {
    for (const page of log.pages(
      { types: ['license.state_changed'], stream: 'local', limit: 1 },
      { reverse: true },
    )) {
      const event = page[0] as ArcticEvent<'license.state_changed'> | undefined;
      if (event !== undefined) return { licenseId: event.data.license_id, state: event.data.to };
    }
    return undefined;
  };

  const check = (): LicenseState | undefined => {
    const license = views.license();
    if (license === undefined) return undefined;
    const state = licenseStateAt(license.expires_at, clock.now());
    executor.execute({ actor: SYSTEM, correlationId: newCorrelationId(ids) }, () =>
      decideLicenseState(license, lastRecorded(), state),
    );
    return state;
  };

  const tick = () => {
    cancel();
    try {
      check();
    } catch (error) {
      deps.onError(error);
    }
    const now = clock.now();
    const license = views.license();
    const next = license && nextLicenseChange(license.expires_at, now);
    cancel = clock.after(
      Math.min(LONGEST_SLEEP_MS, Math.max(1, (next ?? Number.POSITIVE_INFINITY) - now)),
      tick,
    );
  };

  return {
    check,
    start() {
      unsubscribe = log.subscribe((events) => {
        // Not inside the append that brought the license: an append from within another's tick would reorder both.
        if (events.some((event) => event.type === 'license.installed')) {
          cancel();
          cancel = clock.after(0, tick);
        }
      });
      tick();
    },
    stop() {
      unsubscribe();
      cancel();
    },
  };
}
