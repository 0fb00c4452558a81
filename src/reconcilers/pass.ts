import type { ServiceId } from '../../events/brand.ts';
import type { Difference, ObserveScope, Plan, Reconciler, ServiceReconcileStatus } from './contract.ts';

/** A reconciler without its types, so that one runner can hold several. */
export interface Passable {
  readonly name: Reconciler<unknown, unknown, Plan>['name'];
  /**
   * Observes, then plans against the desired state as it is by then; `atDesired` runs in the tick that reads it, so that what
   * it notes (digest, position) belongs to what was planned. `apply` carries the plan out. Scope `change`: only what is
   * desired has changed, so that observing may be spared.
   */
  prepare(
    atDesired: () => void,
    scope?: ObserveScope | 'change',
  ): Promise<{
    /** False when the plan follows from what the last pass left. */
    readonly observed: boolean;
    readonly differences: readonly Difference[];
    /** Services that cannot have what is desired, whatever is applied. */
    readonly problems: readonly Problem[];
    apply(): Promise<void>;
  }>;
  serviceStatus(service: ServiceId): ServiceReconcileStatus | undefined;
  cleanup(scope: 'shutdown' | 'all'): Promise<void>;
}

export interface Problem {
  readonly service_id: ServiceId;
  readonly reason: string;
}

/** A plan that has to leave services out says so here; what it can do for the others it still does. */
export interface PlanWithProblems extends Plan {
  readonly problems: readonly Problem[];
}

const problemsOf = (plan: Plan): readonly Problem[] =>
  'problems' in plan ? (plan as PlanWithProblems).problems : [];

export const passable = <D, O, P extends Plan>(reconciler: Reconciler<D, O, P>): Passable => ({
  name: reconciler.name,
  async prepare(atDesired, scope = 'full') {
    let plan = scope === 'change' ? reconciler.change?.(reconciler.desired()) : undefined;
    const isObserved = plan === undefined;
    if (plan === undefined) {
      const observed = await reconciler.observe(scope === 'change' ? 'full' : scope);
      atDesired();
      plan = reconciler.plan(reconciler.desired(), observed);
    } else atDesired();
    const chosen = plan;
    return {
      observed: isObserved,
      differences: chosen.differences,
      problems: problemsOf(chosen),
      apply: () => reconciler.apply(chosen),
    };
  },
  serviceStatus: (service) => reconciler.serviceStatus?.(service),
  cleanup: (scope) => reconciler.cleanup(scope),
});
