import type { DesiredIptun } from '../../projections/desired/contract.ts';
import type { Plan, Reconciler } from './contract.ts';

/**
 * The place of the IP tunnel, which this version does not have. It observes and applies nothing, and says so of every
 * service instead of calling it applied.
 */
export const createIptunReconciler = (deps: {
  readonly desired: () => DesiredIptun;
}): Reconciler<DesiredIptun, null, Plan> => ({
  name: 'iptun',
  desired: deps.desired,
  observe: async () => null,
  plan: () => ({ differences: [] }),
  apply: async () => undefined,
  serviceStatus: () => ({ state: 'pending', reason: 'not built yet' }),
  cleanup: async () => undefined,
});
