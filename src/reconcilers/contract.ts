import type { PeerId, Position, ServiceId } from '../../events/brand.ts';

export type ReconcilerName = 'network' | 'firewall' | 'tproxy' | 'iptun';

/** One thing that differs between desired and observed, in words. */
export interface Difference {
  readonly item: string;
  readonly desired: string | null;
  readonly observed: string | null;
  readonly service_id?: ServiceId;
}

export interface Plan {
  /** Empty when nothing has to be done. */
  readonly differences: readonly Difference[];
}

/** `notice`: what others may have changed since the last pass; `full`: everything, whatever is remembered. */
export type ObserveScope = 'full' | 'notice';

/** Three idempotent verbs (after cilium/statedb's reconciler); the runner owns time, retries and reports. */
export interface Reconciler<Desired, Observed, P extends Plan> {
  readonly name: ReconcilerName;
  desired(): Desired;
  observe(scope?: ObserveScope): Promise<Observed>;
  /** Decides what to do; touches nothing outside the process. */
  plan(desired: Desired, observed: Observed): P;
  /**
   * The plan for what is desired now, from what the last pass left in place and without observing; undefined when that is
   * not known (any more), or does not suffice.
   */
  change?(desired: Desired): P | undefined;
  apply(plan: P): Promise<void>;
  /** Status a service has with this reconciler after a pass that applied, from what was observed; default `applied`. */
  serviceStatus?(service: ServiceId): ServiceReconcileStatus | undefined;
  /** Removes what must not outlive the agent (TProxy rules) or everything (`all`). */
  cleanup(scope: 'shutdown' | 'all'): Promise<void>;
}

export interface ServiceReconcileStatus {
  readonly state: 'applied' | 'pending' | 'failed';
  readonly reason: string | null;
}

export interface ReconcilerStatus {
  readonly name: ReconcilerName;
  readonly state: 'applied' | 'pending' | 'failed';
  readonly last_run_at: string | null;
  readonly last_error: string | null;
  readonly next_run_at: string | null;
  readonly applied_digest: string | null;
  readonly applied_position: Position | null;
  readonly consecutive_failures: number;
  /** What an operator should know although nothing failed: a fight, observe-only. */
  readonly condition: string | null;
}

export interface DriftReport {
  readonly reconciler: ReconcilerName;
  readonly differences: readonly Difference[];
  /** When they are repaired, where that waits because somebody keeps undoing repairs; null where nothing waits. */
  readonly repair_at: string | null;
}

/** What the API and the agent see of the reconcilers. */
export interface Reconcilers {
  start(): Promise<void>;
  stop(): Promise<void>;
  /** A full pass of all, now; resolves when each has run once. */
  sync(): Promise<void>;
  status(): readonly ReconcilerStatus[];
  serviceStatus(service: ServiceId): Readonly<Record<ReconcilerName, ServiceReconcileStatus>>;
  /** Observes without applying. */
  drift(): Promise<readonly DriftReport[]>;
  cleanup(scope: 'shutdown' | 'all'): Promise<void>;
}

/** Local identity that derivations need. */
export interface LocalPeer {
  readonly id: PeerId;
}
