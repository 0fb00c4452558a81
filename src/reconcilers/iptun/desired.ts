import { hash } from 'node:crypto';
import type { PeerId, ServiceId } from '../../../events/brand.ts';
import type { DesiredFirewall, DesiredIptun, DesiredTproxy } from '../../../projections/desired/contract.ts';
import type {
  TunnelClass,
  TunnelConfig,
  TunnelPeer,
  TunnelPolicy,
  TunnelRoute,
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
export function toTunnelConfig(
  { iptun }: DesiredTunnels,
  policyOf: (peer: DesiredIptun['peers'][number]) => TunnelPolicy,
  endpointOf: EndpointOf,
): TunnelConfig {
  return {
    peers: iptun.peers.map(
      (peer): TunnelPeer => ({
        peerId: peer.peer_id,
        device: deviceName(peer.mark),
        endpoint: endpointOf(peer.peer_id),
        policy: policyOf(peer),
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

/** The service with an interface of its own that a peer's tunnel carries whatever no route names for; the oldest. */
export function fallbackOf(desired: DesiredTunnels, peer: DesiredIptun['peers'][number]): ServiceId | null {
  const ids = new Set(peer.services.map((service) => service.service_id));
  const found = desired.firewall.services.find(
    (service) => service.interface_name !== null && ids.has(service.service_id),
  );
  return found?.service_id ?? null;
}

/** What each peer may send, from what this host serves as an exit. */
export function exitSides({ iptun, tproxy }: DesiredTunnels): ReadonlyMap<PeerId, TunnelSide> {
  const sides = new Map(iptun.peers.map((peer) => [peer.peer_id, new OpenSide()]));
  for (const exit of tproxy.exits) {
    const side = sides.get(exit.peer_id);
    for (const { source_cidr, dest_cidr } of exit.destinations) {
      if (source_cidr === null && dest_cidr === null) side?.setFallback(exit.service_id);
      else side?.add(source_cidr, dest_cidr, exit.service_id);
    }
  }
  return new Map(Array.from(sides, ([peer, side]) => [peer, side.done()]));
}

class OpenSide {
  #fallback: string | null = null;
  readonly #classes = new Map<string, Omit<TunnelClass, 'routes'> & { readonly routes: TunnelRoute[] }>();

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
