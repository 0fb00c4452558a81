import { LOCAL_DELIVERY, MARK } from '../../../projections/desired/contract.ts';
import type {
  IpFamily,
  Kernel,
  PolicyRule,
  Route,
  RouteRequest,
  RuleRequest,
} from '../../kernel/contract.ts';
import { ARCTIC_PROTOCOL } from '../../kernel/rt/schema.ts';
import type { Difference } from '../contract.ts';

/** What delivers marked packets, whatever their destination, to this host's own stack. */
export interface ObservedRouting {
  readonly rules: readonly PolicyRule[];
  readonly routes: readonly Route[];
  readonly loopback: number;
}

export interface RoutingPlan {
  readonly differences: readonly Difference[];
  readonly addRoutes: readonly RouteRequest[];
  readonly addRules: readonly RuleRequest[];
  readonly deleteRules: readonly RuleRequest[];
  readonly deleteRoutes: readonly RouteRequest[];
}

/** Kinds of mark that are for the local stack. */
const KINDS = [
  { kind: MARK.service, what: 'captured connections' },
  { kind: MARK.divert, what: 'replies to transparent sockets' },
] as const;
const ANYWHERE: Readonly<Record<IpFamily, string>> = { ipv4: '0.0.0.0/0', ipv6: '::/0' };

/** Everything in our table and at our priority, whoever put it there: an equal rule of another's serves as well. */
export async function observeRouting(
  kernel: Pick<Kernel, 'rt'>,
  families: readonly IpFamily[],
): Promise<ObservedRouting> {
  const rules: PolicyRule[] = [];
  const routes: Route[] = [];
  for (const family of families) {
    rules.push(
      ...(await kernel.rt.rules(family)).filter((rule) => rule.priority === LOCAL_DELIVERY.priority),
    );
    routes.push(...(await kernel.rt.routes({ family, table: LOCAL_DELIVERY.table })));
  }
  const loopback = (await kernel.rt.links()).find((link) => link.name === 'lo')?.index ?? 1;
  return { rules, routes, loopback };
}

/** Pure. `wanted` is false when this host has nothing to classify: then what is ours goes. */
export function planRouting(
  wanted: boolean,
  families: readonly IpFamily[],
  observed: ObservedRouting,
): RoutingPlan {
  const differences: Difference[] = [];
  const addRoutes: RouteRequest[] = [];
  const addRules: RuleRequest[] = [];
  const deleteRules: RuleRequest[] = [];
  const deleteRoutes: RouteRequest[] = [];
  const rules = observed.rules.filter((rule) => rule.table === LOCAL_DELIVERY.table);
  const routes = [...observed.routes];
  for (const family of wanted ? families : []) {
    const route: RouteRequest = {
      family,
      table: LOCAL_DELIVERY.table,
      type: 'local',
      destination: ANYWHERE[family],
      oif: observed.loopback,
    };
    const at = routes.findIndex((one) => isSameRoute(one, route));
    if (at >= 0) routes.splice(at, 1);
    else {
      addRoutes.push(route);
      differences.push({ item: describeRoute(route), desired: 'dev lo', observed: null });
    }
    for (const { kind, what } of KINDS) {
      const rule = { family, ...LOCAL_DELIVERY, fwmark: kind, fwmask: MARK.kindMask };
      const found = rules.findIndex((one) => isSameRule(one, rule));
      if (found >= 0) rules.splice(found, 1);
      else {
        addRules.push(rule);
        differences.push({ item: `${describeRule(rule)} (${what})`, desired: 'present', observed: null });
      }
    }
  }
  for (const rule of rules.filter(isOurs)) {
    const request = toRuleRequest(rule);
    deleteRules.push(request);
    differences.push({ item: describeRule(request), desired: null, observed: 'present' });
  }
  for (const route of routes.filter(isOurs)) {
    if (route.type !== 'local' && route.type !== 'unicast') continue;
    const request = toRouteRequest(route, route.type);
    deleteRoutes.push(request);
    differences.push({ item: describeRoute(request), desired: null, observed: `${route.type} route` });
  }
  return { differences, addRoutes, addRules, deleteRules, deleteRoutes };
}

/** Rules come after the route, and go before it, so that no marked packet meets an empty table. */
export async function applyRouting(kernel: Pick<Kernel, 'rt'>, plan: RoutingPlan): Promise<void> {
  for (const rule of plan.deleteRules) await kernel.rt.deleteRule(rule);
  for (const route of plan.deleteRoutes) await kernel.rt.deleteRoute(route);
  for (const route of plan.addRoutes) await kernel.rt.addRoute(route);
  for (const rule of plan.addRules) await kernel.rt.addRule(rule);
}

/** What others put in our place is theirs, and does no harm beside ours. */
const isOurs = ({ protocol }: { readonly protocol: number }): boolean => protocol === ARCTIC_PROTOCOL;

const isSameRoute = (there: Route, asked: RouteRequest): boolean =>
  there.family === asked.family &&
  there.type === asked.type &&
  there.destination === asked.destination &&
  there.oif === asked.oif &&
  there.gateway === undefined;

const isSameRule = (there: PolicyRule, asked: RuleRequest): boolean =>
  there.family === asked.family &&
  there.fwmark === asked.fwmark &&
  there.fwmask === asked.fwmask &&
  there.source === undefined &&
  there.destination === undefined &&
  there.iif === undefined;

function toRuleRequest(rule: PolicyRule): RuleRequest {
  const { family, priority, table, fwmark, fwmask, source, iif } = rule;
  return {
    family,
    priority,
    table,
    ...(fwmark === undefined ? {} : { fwmark }),
    ...(fwmask === undefined ? {} : { fwmask }),
    ...(source === undefined ? {} : { source }),
    ...(iif === undefined ? {} : { iif }),
  };
}

function toRouteRequest(route: Route, type: RouteRequest['type']): RouteRequest {
  const { family, table, destination, gateway, oif, metric } = route;
  return {
    family,
    table,
    type,
    destination,
    ...(gateway === undefined ? {} : { gateway }),
    ...(oif === undefined ? {} : { oif }),
    ...(metric === 0 ? {} : { metric }),
  };
}

const describeRoute = (route: RouteRequest): string =>
  `route ${route.type} ${route.destination} table ${route.table}`;

const describeRule = (rule: RuleRequest): string => {
  const mark =
    rule.fwmark === undefined
      ? ''
      : ` fwmark 0x${rule.fwmark.toString(16)}/0x${(rule.fwmask ?? 0xffff_ffff).toString(16)}`;
  return `ip rule ${rule.priority} ${rule.family}${mark} lookup ${rule.table}`;
};
