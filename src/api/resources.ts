import type { CredentialView, LockView, PeerView, RouteView, ServiceView } from '../../projections/views.ts';
import { requireLicense } from '../commands/gate.ts';
import { licenseStateAt, nextLicenseChange } from '../commands/license-state.ts';
import { forkedReason, isMember, setAsideReason } from '../commands/peers.ts';
import { interfaceNameOf } from '../commands/services.ts';
import type { Finding } from '../health/contract.ts';
import { type ApiContext, isoTime } from './context.ts';
import type { TunnelSide } from './ports.ts';

type TunnelsNow = ReturnType<TunnelSide['stats']>['peers'];

/** Resources as SPEC section 4 has them: what the log says, joined with what this host observes. */
export function peerResource(context: ApiContext, peer: PeerView) {
  const isLocal = peer.id === context.identity.peerId;
  const observed = context.peerSide.observed(peer.id);
  return {
    id: peer.id,
    name: peer.name,
    public_key: peer.public_key,
    is_local: isLocal,
    address: peer.address,
    endpoints: peer.endpoints,
    state: stateOf(peer, isLocal, observed.state),
    reason: reasonOf(context, peer, isLocal, observed.reason),
    forked_at: peer.forked_at ?? null,
    closed_ports: isLocal || peer.membership !== 'member' ? [] : observed.closed_ports,
    api_access: peer.api_access,
    last_seen_at: isLocal ? isoTime(context.clock.now()) : observed.last_seen_at,
    created_at: peer.created_at,
    version: peer.version,
  };
}

function stateOf(peer: PeerView, isLocal: boolean, observed: 'pending' | 'active' | 'unreachable') {
  switch (peer.membership) {
    case 'left':
    case 'removed':
      return peer.membership;
    case 'set_aside':
      // No node of the license is free for it; it waits for one.
      return 'pending';
    case 'member':
      return isLocal ? 'active' : observed;
  }
}

/** Why a peer is not active, where that is known. */
function reasonOf(
  { views }: ApiContext,
  peer: PeerView,
  isLocal: boolean,
  observed: string | null,
): string | null {
  if (peer.forked_at !== undefined && isMember(peer)) return forkedReason(peer.forked_at);
  if (peer.membership === 'set_aside') return setAsideReason(views);
  return isLocal || peer.membership !== 'member' ? null : observed;
}

/** A peer as `cluster status` shows it. */
export function peerStatus(context: ApiContext, peer: PeerView) {
  const resource = peerResource(context, peer);
  const observed = context.peerSide.observed(peer.id);
  const { log, projections } = context;
  return {
    ...resource,
    membership: peer.membership,
    agent_version: resource.is_local ? context.options.version : (peer.agent_version ?? null),
    lag: resource.is_local ? 0 : observed.lag,
    log_head: resource.is_local ? log.head : observed.log_head,
    projection_digest: resource.is_local ? projections.digest() : observed.projection_digest,
    clock_skew_ms: resource.is_local ? 0 : observed.clock_skew_ms,
    changes_held_until: resource.is_local ? null : observed.changes_held_until,
  };
}

/** `tunnels`: read once where many services are shown. */
export function serviceResource(
  context: ApiContext,
  service: ServiceView,
  tunnels: TunnelsNow = context.tunnels.stats().peers,
) {
  const routes = context.views.routes.ofService(service.id);
  const status = context.reconcilers.serviceStatus(service.id);
  const hasInterface = service.requires_interface;
  const isUp =
    hasInterface && service.source_peer_id === context.identity.peerId && status.network.state === 'applied';
  return {
    id: service.id,
    name: service.name,
    source_peer_id: service.source_peer_id,
    target_peer_id: service.target_peer_id,
    transport_type: service.transport_type,
    requires_interface: hasInterface,
    desired_ipv4_cidr: service.desired_ipv4_cidr,
    desired_ipv6_cidr: service.desired_ipv6_cidr,
    interface_name: hasInterface ? interfaceNameOf(service.id) : null,
    // What the interface has now, and only the host it is on can know that.
    interface_ipv4_cidr: isUp ? service.desired_ipv4_cidr : null,
    interface_ipv6_cidr: isUp ? service.desired_ipv6_cidr : null,
    fully_transparent: service.fully_transparent,
    bandwidth_limit_mbps: service.bandwidth_limit_mbps,
    on_failure: service.on_failure,
    route_count: routes.length,
    routes: routes.map(routeResource),
    created_at: service.created_at,
    updated_at: service.updated_at,
    version: service.version,
    carried_by: carriedBy(context, service.id),
    tunnel: tunnelTo(context, service, tunnels),
    status,
  };
}

function carriedBy(context: ApiContext, id: ServiceView['id']) {
  const carriage = context.traffic.carriage(id);
  if (carriage === undefined) return null;
  const { transport, reason, roundTripMs, loss } = carriage;
  return {
    transport,
    reason,
    round_trip_ms: roundTripMs === null ? null : Math.round(roundTripMs * 10) / 10,
    loss_percent: loss === null ? null : Math.round(loss * 1_000) / 10,
  };
}

/** Null on hosts that are neither end, and where no tunnel stands. */
function tunnelTo({ identity }: ApiContext, service: ServiceView, tunnels: TunnelsNow) {
  const { source_peer_id: source, target_peer_id: target } = service;
  if (identity.peerId !== source && identity.peerId !== target) return null;
  const far = identity.peerId === source ? target : source;
  const tunnel = tunnels.find(({ peerId }) => peerId === far);
  if (tunnel === undefined) return null;
  return {
    peer_id: far,
    device: tunnel.device,
    endpoint: tunnel.endpoint,
    aead: tunnel.aead,
    mtu: tunnel.mtu,
    handshake_age_ms: tunnel.handshakeAgeMs,
    heard_ago_ms: tunnel.heardAgoMs,
    bytes_sent: tunnel.sent.bytes,
    bytes_received: tunnel.received.bytes,
    datagrams_received: tunnel.received.datagrams,
    datagrams_lost: tunnel.lost,
  };
}

export const routeResource = (route: RouteView) => ({
  id: route.id,
  service_id: route.service_id,
  priority: route.priority,
  source_cidr: route.source_cidr,
  dest_cidr: route.dest_cidr,
  created_at: route.created_at,
  version: route.version,
});

export const credentialResource = (context: ApiContext, credential: CredentialView) => ({
  client_id: credential.client_id,
  scopes: credential.scopes,
  license_id: credential.license_id,
  created_at: credential.created_at,
  last_used_at: context.credentialUse.lastUsedAt(credential.client_id),
  version: credential.version,
});

export function licenseResource(context: ApiContext) {
  const { views, clock } = context;
  const license = requireLicense(views);
  const now = clock.now();
  const next = nextLicenseChange(license.expires_at, now);
  return {
    ...license,
    state: licenseStateAt(license.expires_at, now),
    state_changes_at: next === undefined ? null : isoTime(next),
    nodes: views.peers.list().filter(isMember).length,
    services: views.services.size,
  };
}

export const lockResource = (lock: LockView | undefined) =>
  lock === undefined
    ? null
    : {
        fence: lock.fence,
        holder: lock.holder,
        purpose: lock.purpose,
        expires_at: isoTime(lock.expires_at_ms),
        peer_id: lock.peer_id,
      };

/** A health condition that holds. */
export const conditionResource = ({ code, severity, area, subject, text, remedy }: Finding) => ({
  code,
  severity,
  area,
  subject: subject ?? null,
  text,
  remedy,
});
