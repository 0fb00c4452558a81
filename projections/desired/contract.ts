import type { Cidr, PeerId, RouteKey, ServiceId } from '../../events/brand.ts';

/**
 * The desired state of one host, derived purely from the views and who the local peer is. Reconcilers make the kernel and
 * the engines equal to it; `replay` shows it for any past position. Lists are sorted so that digests are comparable.
 */
export interface DesiredState {
  readonly interfaces: readonly DesiredInterface[];
  readonly firewall: DesiredFirewall;
  readonly tproxy: DesiredTproxy;
  readonly iptun: DesiredIptun;
}
export type DesiredName = keyof DesiredState;

export interface DesiredInterface {
  readonly service_id: ServiceId;
  /** The service id cut to 15 characters (IFNAMSIZ - 1). */
  readonly name: string;
  /** Locally administered, derived from the service id, so that it is stable across restarts. */
  readonly mac: string;
  /** Of its service; also the number of its routing table. */
  readonly mark: number;
  readonly ipv4_cidr: Cidr | null;
  readonly ipv6_cidr: Cidr | null;
}

/**
 * Precedence of routes (SPEC section 10): those with source and destination, then source only, then destination only;
 * inside a class of these the longer prefix (source first, then destination), then the higher priority, then the older.
 * One entry of `classes` is one kernel map: all its routes share family and prefix lengths (and priority where needed);
 * the order of `classes` is the order of evaluation.
 */
export interface RouteClass {
  readonly family: 'ipv4' | 'ipv6';
  /** Prefix length, or null when routes of this class do not look at that side. */
  readonly source_length: number | null;
  readonly dest_length: number | null;
  readonly routes: readonly ClassRoute[];
}

export interface ClassRoute {
  readonly key: RouteKey;
  readonly number: number;
  readonly service_id: ServiceId;
  readonly source_cidr: Cidr | null;
  readonly dest_cidr: Cidr | null;
}

export interface DesiredFirewall {
  /** Services whose source is this peer and that carry TCP; each has its mark. */
  readonly services: readonly {
    readonly service_id: ServiceId;
    readonly mark: number;
    readonly interface_name: string | null;
    /** What becomes of its new connections while no engine takes them. */
    readonly on_failure: 'direct' | 'reject';
  }[];
  /** Duplicate (source, destination) pairs are resolved already: a class holds one route a pair. */
  readonly classes: readonly RouteClass[];
  /** Whether this host serves as an exit with transparent services (it then needs the divert path for replies). */
  readonly transparent_exit: boolean;
}

/** One pair of prefixes leads elsewhere now; `route` is null when it leads nowhere any more. */
export interface RouteChange extends Omit<RouteClass, 'routes'> {
  readonly source_cidr: Cidr | null;
  readonly dest_cidr: Cidr | null;
  readonly route: ClassRoute | null;
}

/** How the classes came from one state to the present one, so that a change costs what it changes, not what there is. */
export interface RouteChanges {
  /** Counts changes of the classes; hand it back to ask again. */
  readonly revision: number;
  /** In order; a pair may come more than once. Undefined: too long ago, look at the classes themselves. */
  readonly changes: readonly RouteChange[] | undefined;
}

export interface DesiredTproxyService {
  readonly service_id: ServiceId;
  readonly name: string;
  readonly mark: number;
  readonly peer_id: PeerId;
  readonly transport_type: 'tcp' | 'kcp' | 'auto';
  readonly fully_transparent: boolean;
  readonly bandwidth_limit_mbps: number;
}

export interface DesiredTproxy {
  /** Entry side: connections with this mark go to this peer. */
  readonly entries: readonly DesiredTproxyService[];
  /** Exit side: what each peer may have us dial. `destinations` are the CIDRs its routes allow. */
  readonly exits: readonly (DesiredTproxyService & {
    readonly destinations: readonly { readonly source_cidr: Cidr | null; readonly dest_cidr: Cidr | null }[];
  })[];
}

export interface DesiredIptun {
  readonly peers: readonly {
    readonly peer_id: PeerId;
    readonly mark: number;
    readonly services: readonly { readonly service_id: ServiceId; readonly bandwidth_limit_mbps: number }[];
  }[];
}

/**
 * fwmarks. Bits 24-31 say "Arctic's"; bits 20-23 the kind; bits 0-19 the service or peer
 * (SHA-256 of the id, 20 bits, linear probing in id order among live ones).
 */
export const MARK = {
  /** Policy routing matches kind with this mask. */
  kindMask: 0xfff0_0000,
  /** TCP of a service on its way to the TCP engine (entry). */
  service: 0x4100_0000,
  /** Replies to transparent sockets on their way to the local stack. */
  divert: 0x41d0_0000,
  /** The agent's own sockets: never captured. */
  own: 0x41f0_0000,
  /** Traffic for a peer's tunnel. */
  tunnel: 0x4120_0000,
} as const;

/** Policy routing table and rule priority that deliver marked packets to the local stack. */
export const LOCAL_DELIVERY = { table: 4100, priority: 4100 } as const;
