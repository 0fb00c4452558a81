import type { PeerId } from '../../events/brand.ts';
import type { ServiceView, Views } from '../views.ts';

/** The services that concern a host: it is one end, and both ends are members. Oldest first. */
export interface Relevant {
  /** This host is the source. */
  readonly entries: readonly ServiceView[];
  /** This host is the target. */
  readonly exits: readonly ServiceView[];
}

/** A service whose source or target is not a member (any more, or set aside by the node cap) is not carried. */
export function relevantServices(views: Views, local: PeerId): Relevant {
  const isMember = (peer: PeerId): boolean => views.peers.get(peer)?.membership === 'member';
  const carried = (service: ServiceView): boolean =>
    service.source_peer_id !== service.target_peer_id &&
    isMember(service.source_peer_id) &&
    isMember(service.target_peer_id);
  const concerned = views.services
    .list()
    .filter(
      (service) => (service.source_peer_id === local || service.target_peer_id === local) && carried(service),
    );
  return {
    entries: concerned.filter((service) => service.source_peer_id === local),
    exits: concerned.filter((service) => service.target_peer_id === local),
  };
}
