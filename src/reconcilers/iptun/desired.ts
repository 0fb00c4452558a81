import { hash } from 'node:crypto';
import type { PeerId, ServiceId } from '../../../events/brand.ts';
import type { DesiredFirewall, DesiredIptun, DesiredTproxy } from '../../../projections/desired/contract.ts';
import type {
  TunnelClass,
  TunnelConfig,
  TunnelPeer,
  TunnelPolicy,
  TunnelSide,
} from '../../engines/iptun/contract.ts';

/** The tunnel carries what the other planes do not, by the same routes: so it follows from all three. */
export interface DesiredTunnels {
  readonly iptun: DesiredIptun;
  readonly firewall: DesiredFirewall;
  readonly tproxy: DesiredTproxy;
}

/** SHA-256 over the digests of the parts. */
export const tunnelDigest = (parts: readonly string[]): string => hash('sha256', parts.join('\n'), 'hex');

export type EndpointOf = (peer: PeerId) => { readonly host: string; readonly port: number } | undefined;

/** `arctun` and the peer's number, which its mark has too: 11 characters. */
export const deviceName = (mark: number): string =>
  `arctun${(mark & 0x000f_ffff).toString(16).padStart(5, '0')}`;

/** The mark of the peer that each service of this host leads to. */
export function marksOfServices(desired: DesiredTunnels): ReadonlyMap<ServiceId, number> {
  const entries = new Set(desired.firewall.services.map((service) => service.service_id));
  return new Map(
    desired.iptun.peers.flatMap((peer) =>
      peer.services
        .filter((service) => entries.has(service.service_id))
        .map((service) => [service.service_id, peer.mark] as const),
    ),
  );
}

/** What the engine is told. Megabits become bits: 10^6, as for every link speed. */
export function toTunnelConfig(desired: DesiredTunnels, endpointOf: EndpointOf): TunnelConfig {
  const policies = policiesOf(desired);
  return {
    peers: desired.iptun.peers.map(
      (peer): TunnelPeer => ({
        peerId: peer.peer_id,
        device: deviceName(peer.mark),
        endpoint: endpointOf(peer.peer_id),
        policy: policies.get(peer.peer_id) ?? { entries: NOTHING, exits: NOTHING },
        limits: peer.services
          .filter((service) => service.bandwidth_limit_mbps > 0)
          .map((service) => ({
            serviceId: service.service_id,
            bitsPerSecond: Math.round(service.bandwidth_limit_mbps * 1e6),
          })),
      }),
    ),
  };
}

const NOTHING: TunnelSide = { fallback: null, classes: [] };

function policiesOf(desired: DesiredTunnels): ReadonlyMap<PeerId, TunnelPolicy> {
  const peerOf = new Map(
    desired.iptun.peers.flatMap((peer) =>
      peer.services.map((service) => [service.service_id, peer.peer_id] as const),
    ),
  );
  const policies = new Map<PeerId, { entries: OpenSide; exits: OpenSide }>();
  for (const { peer_id } of desired.iptun.peers)
    policies.set(peer_id, { entries: new OpenSide(), exits: new OpenSide() });
  const sideOf = (service: ServiceId, side: 'entries' | 'exits'): OpenSide | undefined => {
    const peer = peerOf.get(service);
    return peer === undefined ? undefined : policies.get(peer)?.[side];
  };
  for (const service of desired.firewall.services)
    if (service.interface_name !== null)
      sideOf(service.service_id, 'entries')?.setFallback(service.service_id);
  for (const one of desired.firewall.classes)
    for (const route of one.routes)
      sideOf(route.service_id, 'entries')?.add(route.source_cidr, route.dest_cidr, route.service_id);
  for (const exit of desired.tproxy.exits) {
    const side = sideOf(exit.service_id, 'exits');
    for (const { source_cidr, dest_cidr } of exit.destinations) {
      if (source_cidr === null && dest_cidr === null) side?.setFallback(exit.service_id);
      else side?.add(source_cidr, dest_cidr, exit.service_id);
    }
  }
  return new Map(
    Array.from(policies, ([peer, { entries, exits }]) => [
      peer,
      { entries: entries.done(), exits: exits.done() },
    ]),
  );
}

type Route = TunnelClass['routes'][number];

class OpenSide {
  #fallback: string | null = null;
  readonly #classes = new Map<string, Omit<TunnelClass, 'routes'> & { readonly routes: Route[] }>();

  setFallback(serviceId: string): void {
    this.#fallback ??= serviceId;
  }

  add(source: string | null, dest: string | null, serviceId: string): void {
    const sourceLength = lengthOf(source);
    const destLength = lengthOf(dest);
    const family = (source ?? dest ?? '').includes(':') ? 'ipv6' : 'ipv4';
    const key = `${family} ${sourceLength} ${destLength}`;
    const known = this.#classes.get(key) ?? { family, sourceLength, destLength, routes: [] };
    this.#classes.set(key, known);
    known.routes.push({ source, dest, serviceId });
  }

  /** Both sides before source only before destination only; then the longer prefix, source first (SPEC section 10). */
  done(): TunnelSide {
    const rank = (one: Omit<TunnelClass, 'routes'>): number =>
      one.sourceLength === null ? 2 : one.destLength === null ? 1 : 0;
    return {
      fallback: this.#fallback,
      classes: [...this.#classes.values()].sort(
        (a, b) =>
          rank(a) - rank(b) ||
          (b.sourceLength ?? 0) - (a.sourceLength ?? 0) ||
          (b.destLength ?? 0) - (a.destLength ?? 0),
      ),
    };
  }
}

const lengthOf = (cidr: string | null): number | null =>
  cidr === null ? null : Number(cidr.slice(cidr.lastIndexOf('/') + 1));
