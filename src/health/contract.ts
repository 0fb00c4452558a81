import type { Facts } from './facts.ts';

/** `critical`: something does not work. `warning`: it will not, or not safely. `info`: worth knowing when looking for a cause. */
export type Severity = 'critical' | 'warning' | 'info';

/** Heading under which doctor and readyz show a condition. */
export type Area =
  | 'host'
  | 'kernel'
  | 'settings'
  | 'installation'
  | 'ports'
  | 'agent'
  | 'projections'
  | 'bootstrap'
  | 'license'
  | 'trust roots'
  | 'database'
  | 'API'
  | 'clock'
  | 'peers'
  | 'reconcilers'
  | 'services'
  | 'drift';

/** One occurrence: of a peer, a service, a port, or of the host itself. */
export interface Instance {
  /** What it is about when there can be several; a name an operator knows. */
  readonly subject?: string;
  /** What is the matter, on what, why: one sentence. */
  readonly text: string;
  /** What to do, with the command where there is one. */
  readonly remedy: string;
}

/** One row of the table of health conditions. */
export interface Condition {
  readonly code: string;
  readonly severity: Severity;
  readonly area: Area;
  /** For dashboards and documentation. */
  readonly summary: string;
  /** Headings of the troubleshooting page that this answers. */
  readonly symptoms: readonly string[];
  /** Not shown while one of these holds: it would only be a consequence. */
  readonly dependsOn: readonly string[];
  /** The agent is not ready while it holds. */
  readonly holdsBackReady?: true;
  /** Undefined: the facts to judge by are not there. */
  readonly detect: (facts: Facts) => readonly Instance[] | undefined;
}

export interface Finding extends Instance {
  readonly code: string;
  readonly severity: Severity;
  readonly area: Area;
  readonly symptoms: readonly string[];
}
