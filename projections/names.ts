import type { PeerId, RouteKey, ServiceId } from '../events/brand.ts';
import type { NameOf } from '../events/describe.ts';
import type { Views } from './views.ts';

/** What people call services, peers and routes now; a route by its number. */
export const namesIn =
  ({ services, peers, routes }: Pick<Views, 'services' | 'peers' | 'routes'>): NameOf =>
  (id) =>
    id.startsWith('rte_')
      ? routes.numberOf(id as RouteKey)?.toString()
      : (services.get(id as ServiceId)?.name ?? peers.get(id as PeerId)?.name);
