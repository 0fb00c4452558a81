import type { PeerId } from '../../events/brand.ts';
import type { ServiceView } from '../views.ts';
import { type DesiredIptun, MARK } from './contract.ts';
import { assignNumbers, markOf } from './marks.ts';
import type { Relevant } from './relevant.ts';

/** One tunnel for each peer at the other end of a service, whichever end is this host. */
export function deriveIptun({ entries, exits }: Relevant): DesiredIptun {
  const byPeer = new Map<PeerId, ServiceView[]>();
  const add = (peer: PeerId, service: ServiceView): void => {
    byPeer.set(peer, [...(byPeer.get(peer) ?? []), service]);
  };
  for (const service of entries) add(service.target_peer_id, service);
  for (const service of exits) add(service.source_peer_id, service);
  const numbers = assignNumbers(byPeer.keys());
  return {
    peers: [...numbers].map(([peer_id, number]) => ({
      peer_id,
      mark: markOf(MARK.tunnel, number),
      services: (byPeer.get(peer_id) ?? []).map(({ id, bandwidth_limit_mbps }) => ({
        service_id: id,
        bandwidth_limit_mbps,
      })),
    })),
  };
}
