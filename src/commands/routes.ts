import type { Cidr, ServiceId } from '../../events/brand.ts';
import type { EventData } from '../../events/catalogue.ts';
import { familyOf } from '../../events/cidr.ts';
import type { AnyNewEvent } from '../../events/envelope.ts';
import { ArcticError } from '../../events/errors.ts';
import { newRouteKey } from '../../events/ids.ts';
import type { RouteView, Views } from '../../projections/views.ts';
import { networkCidr } from './cidr.ts';
import type { Decision, DecisionContext } from './decision.ts';
import { type FlowEffect, flowEvents } from './flows.ts';
import { requireChangeable } from './gate.ts';
import { requireService } from './services.ts';

export interface RouteSettings {
  readonly priority: number;
  readonly source_cidr?: string | null;
  readonly dest_cidr?: string | null;
}

interface Rule {
  readonly priority: number;
  readonly source_cidr: Cidr | null;
  readonly dest_cidr: Cidr | null;
}

/** Adds all of the routes, or none. The result is their numbers, in the order given. */
export function decideAddRoutes(
  views: Views,
  serviceId: ServiceId,
  routes: readonly RouteSettings[],
  context: DecisionContext,
): Decision<readonly number[]> {
  requireChangeable(views, context);
  requireService(views, serviceId);
  const rules = routes.map((route, i) => checkRule(route, `/routes/${i}`));
  const asked = new Map<string, string>();
  const first = views.routes.nextNumber(serviceId);
  const events: AnyNewEvent[] = rules.map((rule, i) => {
    refuseDuplicate(asked.get(ruleKey(rule)) ?? sameRoute(views, serviceId, rule), rule, `/routes/${i}`);
    asked.set(ruleKey(rule), `route ${i + 1} of this request`);
    return {
      type: 'route.added',
      entity: newRouteKey(context.ids),
      data: { service_id: serviceId, number: first + i, ...rule },
    };
  });
  return { events, result: routes.map((_, i) => first + i) };
}

/** The existing route that says the same, by name. */
function sameRoute(views: Views, serviceId: ServiceId, rule: Rule, except?: string): string | undefined {
  const other = views.routes
    .withPrefixes(serviceId, rule.source_cidr, rule.dest_cidr)
    .find((route) => route.key !== except && route.priority === rule.priority);
  return other && `route ${other.id}`;
}

export function decideUpdateRoute(
  views: Views,
  serviceId: ServiceId,
  number: number,
  command: Partial<RouteSettings>,
  context: DecisionContext,
  effect: FlowEffect = {},
): Decision<number> {
  requireChangeable(views, context);
  const route = requireRoute(views, serviceId, number);
  const rule = checkRule(
    {
      priority: command.priority ?? route.priority,
      source_cidr: command.source_cidr === undefined ? route.source_cidr : command.source_cidr,
      dest_cidr: command.dest_cidr === undefined ? route.dest_cidr : command.dest_cidr,
    },
    '',
  );
  const data: EventData['route.updated'] = { service_id: serviceId };
  if (rule.priority !== route.priority) data.priority = rule.priority;
  if (rule.source_cidr !== route.source_cidr) data.source_cidr = rule.source_cidr;
  if (rule.dest_cidr !== route.dest_cidr) data.dest_cidr = rule.dest_cidr;
  if (Object.keys(data).length === 1) return { events: [], result: number };
  refuseDuplicate(sameRoute(views, serviceId, rule, route.key), rule, '');
  const events: AnyNewEvent[] = [
    { type: 'route.updated', entity: route.key, data },
    ...flowEvents(serviceId, effect, route),
  ];
  return { events, result: number };
}

export function decideDeleteRoute(
  views: Views,
  serviceId: ServiceId,
  number: number,
  context: DecisionContext,
  effect: FlowEffect = {},
): Decision<null> {
  requireChangeable(views, context);
  const route = requireRoute(views, serviceId, number);
  return {
    events: [
      { type: 'route.deleted', entity: route.key, data: { service_id: serviceId } },
      ...flowEvents(serviceId, effect, route),
    ],
    result: null,
  };
}

export function requireRoute(views: Views, serviceId: ServiceId, number: number): RouteView {
  requireService(views, serviceId);
  const route = views.routes.byNumber(serviceId, number);
  if (route === undefined) {
    throw new ArcticError(
      'NOT_FOUND',
      `service ${serviceId} has no route ${number}; see: arctic routes list --service ${serviceId}`,
    );
  }
  return route;
}

function checkRule(route: RouteSettings, at: string): Rule {
  const source_cidr = route.source_cidr == null ? null : networkCidr(route.source_cidr, `${at}/source_cidr`);
  const dest_cidr = route.dest_cidr == null ? null : networkCidr(route.dest_cidr, `${at}/dest_cidr`);
  if (source_cidr === null && dest_cidr === null) {
    const message = 'needs a source_cidr, a dest_cidr or both';
    throw new ArcticError('INVALID_REQUEST', `a route ${message}.`, [{ pointer: at, message }]);
  }
  if (source_cidr !== null && dest_cidr !== null && familyOf(source_cidr) !== familyOf(dest_cidr)) {
    const message = `mixes IPv4 and IPv6 (${source_cidr} and ${dest_cidr}); make a route for each`;
    throw new ArcticError('INVALID_CIDR', `a route ${message}.`, [{ pointer: at, message }]);
  }
  return { priority: route.priority, source_cidr, dest_cidr };
}

const ruleKey = (rule: Rule): string => `${rule.priority} ${rule.source_cidr} ${rule.dest_cidr}`;

function refuseDuplicate(other: string | undefined, rule: Rule, at: string): void {
  if (other === undefined) return;
  throw new ArcticError(
    'ALREADY_EXISTS',
    `${other} says the same already (source ${rule.source_cidr ?? 'any'}, destination ${rule.dest_cidr ?? 'any'}, priority ${rule.priority}).`,
    [{ pointer: at, message: `is the same as ${other}` }],
  );
}
