import { type DesiredInterface, MARK } from '../../../projections/desired/contract.ts';
import type { Kernel, PolicyRule, Route, RouteRequest, RuleRequest } from '../../kernel/contract.ts';
import { canonicalCidr, networkOf, parseCidr } from '../../kernel/rt/cidr.ts';
import { ARCTIC_PROTOCOL } from '../../kernel/rt/schema.ts';
import type { Difference } from '../contract.ts';

/**
 * Replies leave by the interface they came in by: what is sent from the address of a service's interface, and what the
 * engine sends to clients that came in by it, looks in a routing table of that interface first. Where that table knows no
 * way (no gateway in the interface's network), the host's own routing goes on.
 */
export const SOURCE_PRIORITY = 4200;

export interface ObservedSources {
  readonly rules: readonly PolicyRule[];
  readonly routes: readonly Route[];
}

export interface SourceRouting {
  readonly routes: readonly RouteRequest[];
  readonly rules: readonly RuleRequest[];
}

export interface SourcePlan {
  readonly add: SourceRouting;
  readonly remove: SourceRouting;
  readonly differences: readonly Difference[];
}

/** The table of an interface has the number of its service's mark. */
const tableOf = (one: DesiredInterface): number => one.mark;

export async function observeSources(
  rt: Kernel['rt'],
  desired: readonly DesiredInterface[],
): Promise<ObservedSources> {
  const rules = (await rt.rules()).filter(
    (rule) => rule.priority === SOURCE_PRIORITY && rule.protocol === ARCTIC_PROTOCOL,
  );
  const routes: Route[] = [];
  for (const one of desired)
    for (const cidr of [one.ipv4_cidr, one.ipv6_cidr]) {
      if (cidr === null) continue;
      const { family } = parseCidr(cidr);
      routes.push(...(await rt.routes({ family, table: tableOf(one) })).filter(isOurs));
    }
  return { rules, routes };
}

const isOurs = (route: Route): boolean => route.protocol === ARCTIC_PROTOCOL && route.type === 'unicast';

/** What one interface needs. `gateways` are the host's default routes: one whose gateway is in the network serves here too. */
export function sourceRouting(
  one: DesiredInterface,
  linkIndex: number,
  gateways: readonly Route[],
): SourceRouting {
  const routes: RouteRequest[] = [];
  const rules: RuleRequest[] = [];
  const table = tableOf(one);
  for (const cidr of [one.ipv4_cidr, one.ipv6_cidr]) {
    if (cidr === null) continue;
    const { family, prefixLength } = parseCidr(cidr);
    const address = canonicalCidr(cidr).replace(/\/\d+$/, '');
    const length = family === 'ipv4' ? 32 : 128;
    routes.push({ family, table, type: 'unicast', destination: networkOf(cidr), oif: linkIndex });
    const gateway = gateways.find(
      (route) =>
        route.family === family &&
        route.gateway !== undefined &&
        networkOf(`${route.gateway}/${prefixLength}`) === networkOf(cidr),
    )?.gateway;
    if (gateway !== undefined)
      routes.push({
        family,
        table,
        type: 'unicast',
        destination: family === 'ipv4' ? '0.0.0.0/0' : '::/0',
        gateway,
        oif: linkIndex,
      });
    rules.push({ family, priority: SOURCE_PRIORITY, table, source: `${address}/${length}` });
    // The agent's own sockets name the service they serve; a mark without one would be every dial's.
    if (one.mark !== MARK.service)
      rules.push({
        family,
        priority: SOURCE_PRIORITY,
        table,
        fwmark: (one.mark ^ MARK.service ^ MARK.own) >>> 0,
        fwmask: 0xffff_ffff,
      });
  }
  return { routes, rules };
}

/** Pure. `wanted` by service, for the interfaces that are there. */
export function planSources(
  wanted: readonly { readonly one: DesiredInterface; readonly routing: SourceRouting }[],
  observed: ObservedSources,
): SourcePlan {
  const differences: Difference[] = [];
  const rules = [...observed.rules];
  const routes = [...observed.routes];
  const add = { routes: [] as RouteRequest[], rules: [] as RuleRequest[] };
  for (const { one, routing } of wanted) {
    const missing = (item: string): number =>
      differences.push({ item, desired: 'present', observed: null, service_id: one.service_id });
    for (const route of routing.routes) {
      const at = routes.findIndex((there) => isSameRoute(there, route));
      if (at >= 0) routes.splice(at, 1);
      else {
        add.routes.push(route);
        missing(describeRoute(route));
      }
    }
    for (const rule of routing.rules) {
      const at = rules.findIndex((there) => isSameRule(there, rule));
      if (at >= 0) rules.splice(at, 1);
      else {
        add.rules.push(rule);
        missing(describeRule(rule));
      }
    }
  }
  const remove = { routes: routes.map(routeRequest), rules: rules.map(ruleRequest) };
  for (const route of remove.routes)
    differences.push({ item: describeRoute(route), desired: null, observed: 'present' });
  for (const rule of remove.rules)
    differences.push({ item: describeRule(rule), desired: null, observed: 'present' });
  return { add, remove, differences };
}

/** Rules come after the routes they lead to, and go before them. */
export async function addSources(rt: Kernel['rt'], { routes, rules }: SourceRouting): Promise<void> {
  for (const route of routes) await rt.addRoute(route);
  for (const rule of rules) await rt.addRule(rule);
}

export async function removeSources(rt: Kernel['rt'], { routes, rules }: SourceRouting): Promise<void> {
  for (const rule of rules) await rt.deleteRule(rule);
  for (const route of routes) await rt.deleteRoute(route);
}

/** Everything of ours, for an uninstall: the routes go with their interfaces. */
export const allSources = async (rt: Kernel['rt']): Promise<SourceRouting> => ({
  routes: [],
  rules: (await observeSources(rt, [])).rules.map(ruleRequest),
});

const isSameRoute = (there: Route, asked: RouteRequest): boolean =>
  there.family === asked.family &&
  there.table === asked.table &&
  there.destination === asked.destination &&
  there.gateway === asked.gateway &&
  there.oif === asked.oif;

const isSameRule = (there: PolicyRule, asked: RuleRequest): boolean =>
  there.family === asked.family &&
  there.table === asked.table &&
  there.source === asked.source &&
  there.fwmark === asked.fwmark &&
  there.destination === undefined &&
  there.iif === undefined;

const routeRequest = ({ family, table, destination, gateway, oif, metric }: Route): RouteRequest => ({
  family,
  table,
  type: 'unicast',
  destination,
  ...(gateway === undefined ? {} : { gateway }),
  ...(oif === undefined ? {} : { oif }),
  ...(metric === 0 ? {} : { metric }),
});

const ruleRequest = ({ family, priority, table, source, fwmark, fwmask, iif }: PolicyRule): RuleRequest => ({
  family,
  priority,
  table,
  ...(source === undefined ? {} : { source }),
  ...(fwmark === undefined ? {} : { fwmark }),
  ...(fwmask === undefined ? {} : { fwmask }),
  ...(iif === undefined ? {} : { iif }),
});

const describeRoute = ({ destination, gateway, table }: RouteRequest): string =>
  `route ${destination}${gateway === undefined ? '' : ` via ${gateway}`} table ${table}`;

const describeRule = ({ priority, family, source, fwmark, table }: RuleRequest): string =>
  `ip rule ${priority} ${family}${source === undefined ? '' : ` from ${source}`}${fwmark === undefined ? '' : ` fwmark 0x${fwmark.toString(16)}`} lookup ${table}`;
