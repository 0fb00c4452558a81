import type { ServiceId } from '../../events/brand.ts';
import type { AnyNewEvent } from '../../events/envelope.ts';
import type { RouteView } from '../../projections/views.ts';

/**
 * What a change does to connections that are established already. By default they go on as they are, until they end by
 * themselves; with `reset` those that the changed thing carried are ended, on both sides.
 */
export interface FlowEffect {
  readonly resetFlows?: boolean;
}

/** The event that ends what a route carried until now, or everything a service carries. */
export function flowEvents(
  service: ServiceId,
  effect: FlowEffect,
  route?: Pick<RouteView, 'source_cidr' | 'dest_cidr'>,
): readonly AnyNewEvent[] {
  if (effect.resetFlows !== true) return [];
  const { source_cidr, dest_cidr } = route ?? { source_cidr: null, dest_cidr: null };
  return [{ type: 'service.flows_reset', entity: service, data: { between: [{ source_cidr, dest_cidr }] } }];
}
