import type { Position, ServiceId } from '../../events/brand.ts';
import type { Clock, Random } from '../../events/clock.ts';
import type { AnyNewEvent } from '../../events/envelope.ts';
import type { ProjectionName } from '../../projections/replay.ts';
import type { KernelNotice } from '../kernel/contract.ts';
import type { ReconcilerName, Reconcilers, ServiceReconcileStatus } from './contract.ts';
import { type LoopLogger, ReconcileLoop } from './loop.ts';
import type { Passable } from './pass.ts';

/** One reconciler with what wakes it. */
export interface ReconcilerEntry {
  readonly passable: Passable;
  /** SHA-256 of what it desires now. */
  readonly digest: () => string;
  /** Projections whose change wakes it. */
  readonly wakesOn: readonly ProjectionName[];
  /** Kernel subsystems whose foreign change wakes it. */
  readonly watches: readonly KernelNotice['subsystem'][];
}

export interface ReconcilersOptions {
  /** Default 60,000 (SPEC section 10). */
  readonly resyncMs?: number;
  readonly observeOnly?: boolean;
}

export interface ReconcilersDeps {
  readonly clock: Clock;
  readonly random: Pick<Random, 'fraction'>;
  /** `child({ reconciler })` tags every line, so that `grep reconciler=firewall` finds them. */
  readonly logger: { child(fields: { readonly reconciler: string }): LoopLogger };
  /** An empty start must not wipe a working host: nothing is applied before the log has been folded. */
  readonly caughtUp: () => boolean;
  readonly bootstrapped: () => boolean;
  readonly position: () => Position;
  /** Appends local events; throws when the log cannot take them. */
  readonly record: (events: readonly AnyNewEvent[]) => void;
  readonly onProjectionChanged: (listener: (name: ProjectionName) => void) => () => void;
  readonly watchKernel: (listener: (notice: KernelNotice) => void) => () => void;
  readonly reconcilers: readonly ReconcilerEntry[];
}

/** One append's changes come in one tick; a foreign transaction's notices within a few milliseconds. */
const CHANGE_COALESCE_MS = 0;
const NOTICE_COALESCE_MS = 3;

/** Creates the runner of all reconcilers; nothing is observed before `start()`. */
export function createReconcilers(options: ReconcilersOptions, deps: ReconcilersDeps): Reconcilers {
  const { clock, random, position } = deps;
  const running = deps.reconcilers.map((entry) => {
    const logger = deps.logger.child({ reconciler: entry.passable.name });
    const loop = new ReconcileLoop(
      entry.passable,
      { resyncMs: options.resyncMs ?? 60_000, observeOnly: options.observeOnly ?? false },
      {
        clock,
        random,
        position,
        logger,
        digest: entry.digest,
        waitingFor,
        record: (events) => record(events, logger),
      },
    );
    return { entry, loop };
  });
  let unsubscribe: (() => void)[] = [];

  function waitingFor(): string | undefined {
    if (!deps.caughtUp()) return 'waiting for the event log to be read';
    if (!deps.bootstrapped()) return 'waiting for bootstrap';
    return undefined;
  }

  /** A log that cannot be written (a full disk) must not stop the data plane from being repaired. */
  function record(events: readonly AnyNewEvent[], logger: LoopLogger): void {
    try {
      deps.record(events);
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      logger.error({ reason, types: events.map((event) => event.type).join(' ') }, 'could not record events');
    }
  }

  function onChanged(name: ProjectionName): void {
    // Bootstrap opens the gate for all.
    for (const { entry, loop } of running)
      if (name === 'cluster' || entry.wakesOn.includes(name)) loop.wake(CHANGE_COALESCE_MS);
  }

  function onNotice(notice: KernelNotice): void {
    if (notice.own) return;
    for (const { entry, loop } of running)
      if (notice.overrun || entry.watches.includes(notice.subsystem))
        loop.wakeForForeignChange(
          { pid: notice.pid, program: notice.program },
          NOTICE_COALESCE_MS,
          notice.overrun,
        );
  }

  return {
    async start() {
      unsubscribe = [deps.onProjectionChanged(onChanged), deps.watchKernel(onNotice)];
      for (const { loop } of running) loop.start();
    },
    async stop() {
      for (const end of unsubscribe) end();
      unsubscribe = [];
      await Promise.all(running.map(({ loop }) => loop.stop()));
    },
    async sync() {
      await Promise.all(running.map(({ loop }) => loop.passNow()));
    },
    status: () => running.map(({ loop }) => loop.status()),
    serviceStatus(service: ServiceId) {
      return Object.fromEntries(
        running.map(({ loop }) => [loop.name, loop.serviceStatus(service)]),
      ) as Record<ReconcilerName, ServiceReconcileStatus>;
    },
    drift: () => Promise.all(running.map(({ loop }) => loop.drift())),
    async cleanup(scope) {
      for (const { loop } of [...running].reverse()) await loop.cleanup(scope);
    },
  };
}
