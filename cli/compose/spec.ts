import type { Cidr } from '../../events/brand.ts';

/** What a compose file says, in canonical form: defaults filled in, CIDRs as the agents write them. */
export interface ClusterSpec {
  /** Path as written. */
  readonly license: string | undefined;
  readonly peers: readonly PeerSpec[];
  readonly services: readonly ServiceSpec[];
}

export interface PeerSpec {
  readonly name: string;
  /** `host:port`. */
  readonly address: string;
  readonly api_access: ApiAccess;
}

/** What becomes of new connections while no agent takes them. */
export type OnFailure = 'direct' | 'reject';

export type ApiAccess = 'open' | 'internal';

export interface ServiceSettings {
  readonly name: string;
  /** Names of peers. */
  readonly source_peer: string;
  readonly target_peer: string;
  readonly transport_type: 'tcp' | 'kcp' | 'auto';
  readonly fully_transparent: boolean;
  readonly interface_enabled: boolean;
  readonly interface_ipv4: Cidr | null;
  readonly interface_ipv6: Cidr | null;
  readonly bandwidth_limit_mbps: number;
  readonly on_failure: OnFailure;
}

export interface ServiceSpec extends ServiceSettings {
  readonly routes: readonly RouteSpec[];
}

export interface RouteSpec {
  readonly priority: number;
  readonly source_cidr: Cidr | null;
  readonly dest_cidr: Cidr | null;
}

/** The settings of a service in the order people read them: as the file has them, and as the API has them. */
export const SERVICE_FIELDS = [
  { field: 'name', label: 'name', api: 'name' },
  { field: 'source_peer', label: 'source_peer', api: 'source_peer_id' },
  { field: 'target_peer', label: 'target_peer', api: 'target_peer_id' },
  { field: 'transport_type', label: 'transport_type', api: 'transport_type' },
  { field: 'fully_transparent', label: 'fully_transparent', api: 'fully_transparent' },
  { field: 'interface_enabled', label: 'interface.enabled', api: 'requires_interface' },
  { field: 'interface_ipv4', label: 'interface.ipv4', api: 'desired_ipv4_cidr' },
  { field: 'interface_ipv6', label: 'interface.ipv6', api: 'desired_ipv6_cidr' },
  { field: 'bandwidth_limit_mbps', label: 'qos.bandwidth_limit_mbps', api: 'bandwidth_limit_mbps' },
  { field: 'on_failure', label: 'on_failure', api: 'on_failure' },
] as const satisfies readonly {
  readonly field: keyof ServiceSettings;
  readonly label: string;
  readonly api: string;
}[];

export type ServiceField = (typeof SERVICE_FIELDS)[number]['field'];

/** Two routes of a service are one when these are the same. */
export const routeKey = (route: RouteSpec): string =>
  `${route.priority} ${route.source_cidr} ${route.dest_cidr}`;
