import type { PeerId } from '../../events/brand.ts';
import type { ServiceView, Views } from '../views.ts';
import type { DesiredTproxy, DesiredTproxyService } from './contract.ts';
import { serviceMarks } from './marks.ts';
import type { Relevant } from './relevant.ts';

/**
 * What the TCP engine carries and what it may dial. An exit's destinations follow from the log alone: nothing a peer sends
 * widens them.
 */
export function deriveTproxy(views: Views, relevant: Relevant): DesiredTproxy {
  const marks = serviceMarks(relevant);
  const common = (service: ServiceView, peer: PeerId): DesiredTproxyService => ({
    service_id: service.id,
    name: service.name,
    mark: marks.get(service.id) ?? 0,
    peer_id: peer,
    transport_type: service.transport_type,
    fully_transparent: service.fully_transparent,
    bandwidth_limit_mbps: service.bandwidth_limit_mbps,
  });
  return {
    entries: relevant.entries.map((service) => common(service, service.target_peer_id)),
    exits: relevant.exits.map((service) => ({
      ...common(service, service.source_peer_id),
      destinations: destinationsOf(views, service),
    })),
  };
}

/** A service with an interface carries whatever arrives on it, so its exit has to dial anything. */
function destinationsOf(views: Views, service: ServiceView): DesiredTproxy['exits'][number]['destinations'] {
  const routes = views.routes.ofService(service.id);
  const allowed = routes.map(({ source_cidr, dest_cidr }) => ({ source_cidr, dest_cidr }));
  return service.requires_interface ? [{ source_cidr: null, dest_cidr: null }, ...allowed] : allowed;
}
