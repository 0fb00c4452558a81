import type { DesiredName } from './desired/contract.ts';

/** What the log is folded into, and what is derived from that for one host. Names only, so that whoever just lists them loads nothing. */
export const VIEW_NAMES = ['peers', 'services', 'routes', 'credentials', 'license', 'cluster'] as const;
export type ViewName = (typeof VIEW_NAMES)[number];
export const DESIRED_NAMES = ['interfaces', 'firewall', 'tproxy', 'iptun'] as const satisfies DesiredName[];
export type ProjectionName = ViewName | DesiredName;
export const PROJECTION_NAMES: readonly ProjectionName[] = [...VIEW_NAMES, ...DESIRED_NAMES];
