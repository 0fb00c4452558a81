import type { Position, ServiceId } from '../../../events/brand.ts';
import type { AnyNewEvent } from '../../../events/envelope.ts';
import type { ProjectionName } from '../../../projections/replay.ts';
import type { KernelNotice } from '../../../src/kernel/contract.ts';
import type { Reconciler, Reconcilers } from '../../../src/reconcilers/contract.ts';
import { type PlanWithProblems, type Problem, passable } from '../../../src/reconcilers/pass.ts';
import { createReconcilers, type ReconcilerEntry } from '../../../src/reconcilers/runner.ts';
import { settle, VirtualClock } from './virtual-clock.ts';

export interface LogLine {
  readonly level: string;
  readonly reconciler: string;
  readonly text: string;
  readonly fields: object;
}

/** A runner under virtual time, with everything it says and records in the test's hands. */
export function makeRunner(entries: readonly ReconcilerEntry[], options: { readonly ready?: boolean } = {}) {
  const clock = new VirtualClock();
  const recorded: AnyNewEvent[] = [];
  const lines: LogLine[] = [];
  const state = {
    caughtUp: options.ready ?? true,
    bootstrapped: options.ready ?? true,
    position: 7,
    logFails: false,
  };
  let changed: ((name: ProjectionName) => void) | undefined;
  let noticed: ((notice: KernelNotice) => void) | undefined;
  const reconcilers: Reconcilers = createReconcilers(
    {},
    {
      clock,
      random: { fraction: () => 1 },
      logger: {
        child: ({ reconciler }) => {
          const at = (level: string) => (fields: object, text: string) =>
            void lines.push({ level, reconciler, text, fields });
          return { debug: at('debug'), info: at('info'), warn: at('warn'), error: at('error') };
        },
      },
      caughtUp: () => state.caughtUp,
      bootstrapped: () => state.bootstrapped,
      position: () => state.position as Position,
      record: (events) => {
        if (state.logFails) throw new Error('disk full');
        recorded.push(...events);
      },
      onProjectionChanged: (listener) => {
        changed = listener;
        return () => {
          changed = undefined;
        };
      },
      watchKernel: (listener) => {
        noticed = listener;
        return () => {
          noticed = undefined;
        };
      },
      reconcilers: entries,
    },
  );
  return {
    reconcilers,
    clock,
    recorded,
    lines,
    state,
    changed: (name: ProjectionName) => changed?.(name),
    notice: (notice: Partial<KernelNotice>) =>
      noticed?.({
        subsystem: 'nftables',
        own: false,
        pid: undefined,
        program: undefined,
        overrun: false,
        ...notice,
      }),
    types: () => recorded.splice(0).map((event) => event.type),
    settle,
  };
}

/** A reconciler over one string: what stands there is to be what is desired. */
export function makeShelf() {
  const shelf = {
    desired: 'a',
    there: '',
    problems: [] as Problem[],
    failWith: undefined as Error | undefined,
    staleTimes: 0,
    observed: 0,
    applied: 0,
    cleaned: [] as string[],
    /** Runs between observing and planning. */
    meanwhile: undefined as (() => void) | undefined,
  };
  const reconciler: Reconciler<string, string, PlanWithProblems & { readonly to: string }> = {
    name: 'firewall',
    desired: () => shelf.desired,
    observe: async () => {
      shelf.observed += 1;
      const { there } = shelf;
      await Promise.resolve();
      shelf.meanwhile?.();
      shelf.meanwhile = undefined;
      return there;
    },
    plan: (desired, observed) => ({
      to: desired,
      problems: shelf.problems,
      differences: desired === observed ? [] : [{ item: 'shelf', desired, observed: observed || null }],
    }),
    apply: async (plan) => {
      if (shelf.staleTimes > 0) {
        shelf.staleTimes -= 1;
        throw Object.assign(new Error('generation moved on'), { code: 'ESTALE' });
      }
      if (shelf.failWith) throw shelf.failWith;
      shelf.applied += 1;
      shelf.there = plan.to;
    },
    cleanup: async (scope) => void shelf.cleaned.push(scope),
  };
  const entry: ReconcilerEntry = {
    passable: passable(reconciler),
    digest: () => Buffer.from(shelf.desired).toString('hex').padEnd(64, '0'),
    wakesOn: ['firewall'],
    watches: ['nftables', 'rule'],
  };
  return { shelf, entry };
}

export const serviceId = (n: number): ServiceId => `svc_${String(n).padStart(26, '0')}` as ServiceId;
