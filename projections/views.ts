import type {
  Cidr,
  ClientId,
  ClusterId,
  CustomerId,
  EventId,
  Hlc,
  LicenseId,
  PeerId,
  RouteKey,
  ServiceId,
} from '../events/brand.ts';

/**
 * The read side: what the cluster is believed to be, as folded from the log. Rows are immutable; a change makes a new row.
 * `version` counts the config events about the entity and is what `If-Match` compares.
 */
export interface PeerView {
  readonly id: PeerId;
  readonly name: string;
  /** base64, 32 bytes. */
  readonly public_key: string;
  readonly address: string;
  readonly endpoints: readonly string[];
  readonly api_access: 'open' | 'internal';
  /** From the log alone; `active`, `pending` and `unreachable` are told apart by sessions (src/gossip). */
  readonly membership: 'member' | 'left' | 'removed' | 'set_aside';
  /** Has its own `peer.registered` arrived, or do we only know the admission. */
  readonly registered: boolean;
  /** Set by `peer.removed`: last sequence number that stands. */
  readonly last_seq: number | undefined;
  /** It signed two histories that part at this sequence number: from there on nothing of it counts. Absent for everyone else. */
  readonly forked_at?: number;
  /** Leaves and removals that stand; an admission that is to bring the peer back names them in `readmits`. */
  readonly departures: readonly EventId[];
  readonly agent_version: string | undefined;
  readonly created_at: string;
  readonly joined_hlc: Hlc;
  readonly version: number;
}

export interface ServiceView {
  readonly id: ServiceId;
  readonly name: string;
  readonly source_peer_id: PeerId;
  readonly target_peer_id: PeerId;
  readonly transport_type: 'tcp' | 'kcp' | 'auto';
  readonly requires_interface: boolean;
  readonly desired_ipv4_cidr: Cidr | null;
  readonly desired_ipv6_cidr: Cidr | null;
  readonly fully_transparent: boolean;
  readonly bandwidth_limit_mbps: number;
  /** While nothing carries its connections: sent on directly, or refused. */
  readonly on_failure: 'direct' | 'reject';
  readonly created_at: string;
  readonly updated_at: string;
  readonly created_hlc: Hlc;
  readonly version: number;
}

export interface RouteView {
  readonly key: RouteKey;
  /** The number people see; unique in its service (a number proposed twice stays with the earlier by (hlc, origin)). */
  readonly id: number;
  readonly service_id: ServiceId;
  readonly priority: number;
  readonly source_cidr: Cidr | null;
  readonly dest_cidr: Cidr | null;
  readonly created_at: string;
  readonly created_hlc: Hlc;
  readonly version: number;
}

export interface CredentialView {
  readonly client_id: ClientId;
  readonly secret_hash: string;
  readonly previous: { readonly secret_hash: string; readonly valid_until_ms: number } | undefined;
  readonly scopes: readonly string[];
  readonly license_id: LicenseId;
  readonly shared: boolean;
  readonly revoked: boolean;
  readonly revoked_hlc: Hlc | undefined;
  readonly created_at: string;
  readonly created_hlc: Hlc;
  readonly version: number;
}

export interface LicenseDocumentView {
  readonly license_id: LicenseId;
  readonly customer_id: CustomerId;
  readonly issued_at: string;
  readonly expires_at: string;
  readonly max_nodes: number;
  readonly max_services: number;
  readonly features: readonly string[];
  readonly signature: string;
}

export interface LockView {
  readonly fence: number;
  readonly holder: string;
  readonly purpose: string;
  readonly expires_at_ms: number;
  readonly peer_id: PeerId;
}

export interface ClusterView {
  /** Undefined until bootstrapped. The smallest of all known ids. */
  readonly cluster_id: ClusterId | undefined;
  readonly customer_id: CustomerId | undefined;
  readonly name: string | null;
  readonly description: string | null;
  readonly created_at: string | undefined;
  readonly lock: LockView | undefined;
  readonly last_fence: number;
}

/** What decisions and the API read. Maps keep creation order by (hlc, origin) when listed with `list()`. */
export interface Views {
  readonly cluster: () => ClusterView;
  /** The license in force: the latest issued (ties: larger id) of those installed. */
  readonly license: () => LicenseDocumentView | undefined;
  readonly peers: Collection<PeerId, PeerView>;
  readonly services: Collection<ServiceId, ServiceView>;
  readonly routes: RouteCollection;
  readonly credentials: Collection<ClientId, CredentialView>;
}

export interface Collection<K, V> {
  get(id: K): V | undefined;
  /** Live rows (deleted ones are gone; left and removed peers and revoked credentials stay), oldest first. */
  list(): readonly V[];
  readonly size: number;
}

export interface RouteCollection {
  get(key: RouteKey): RouteView | undefined;
  byNumber(service: ServiceId, number: number): RouteView | undefined;
  /** Its number, or of a deleted one the number it last had. */
  numberOf(key: RouteKey): number | undefined;
  /** As a list, which is kept until something changes or memory is needed; a page is cut from it. */
  ofService(service: ServiceId): readonly RouteView[];
  /** The same one by one, kept nowhere. */
  eachOf(service: ServiceId): Iterable<RouteView>;
  countOf(service: ServiceId): number;
  /** Routes of a service that name these prefixes, oldest first; without looking at the others. */
  withPrefixes(service: ServiceId, source: string | null, dest: string | null): readonly RouteView[];
  /** The number a next route of this service should propose. */
  nextNumber(service: ServiceId): number;
  readonly size: number;
}
