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

/** Priority of the rules that lead marked packets to the table of their peer; the table's number is the mark. */
export const TUNNEL_PRIORITY = 4110;
const WHOLE_MARK = 0xffff_ffff;
const ANYWHERE: Readonly<Record<IpFamily, string>> = { ipv4: '0.0.0.0/0', ipv6: '::/0' };

export interface ObservedTunnelRouting {
  readonly rules: readonly PolicyRule[];
  readonly routes: readonly Route[];
}

export interface TunnelRoutingPlan {
  readonly differences: readonly Difference[];
  readonly addRoutes: readonly RouteRequest[];
  readonly addRules: readonly RuleRequest[];
  readonly deleteRules: readonly RuleRequest[];
  readonly deleteRoutes: readonly RouteRequest[];
}

/** Our rules, and what is in the tables of `marks` and of the rules. */
export async function observeTunnelRouting(
  kernel: Pick<Kernel, 'rt'>,
  families: readonly IpFamily[],
  marks: readonly number[],
): Promise<ObservedTunnelRouting> {
  const rules: PolicyRule[] = [];
  const routes: Route[] = [];
  for (const family of families) {
    const ours = (await kernel.rt.rules(family)).filter(
      (rule) => rule.priority === TUNNEL_PRIORITY && rule.protocol === ARCTIC_PROTOCOL,
    );
    rules.push(...ours);
    for (const table of new Set([...marks, ...ours.map((rule) => rule.table)]))
      routes.push(
        ...(await kernel.rt.routes({ family, table })).filter((route) => route.protocol === ARCTIC_PROTOCOL),
      );
  }
  return { rules, routes };
}

/** Pure. `tunnels` are the marks with the index of their device; undefined while the device is not there. */
export function planTunnelRouting(
  tunnels: readonly { readonly mark: number; readonly index: number | undefined }[],
  families: readonly IpFamily[],
  observed: ObservedTunnelRouting,
): TunnelRoutingPlan {
  const differences: Difference[] = [];
  const addRoutes: RouteRequest[] = [];
  const addRules: RuleRequest[] = [];
  const routes = new Set(observed.routes);
  const rules = new Set(observed.rules);
  for (const family of families)
    for (const { mark, index } of tunnels) {
      const table = mark;
      const route = [...routes].find(
        (one) =>
          one.family === family &&
          one.table === table &&
          one.oif === index &&
          one.destination === ANYWHERE[family] &&
          one.type === 'unicast',
      );
      if (route !== undefined) routes.delete(route);
      else {
        differences.push({ item: describeRoute(family, table), desired: 'to the tunnel', observed: null });
        if (index !== undefined)
          addRoutes.push({ family, table, type: 'unicast', destination: ANYWHERE[family], oif: index });
      }
      const rule = [...rules].find(
        (one) =>
          one.family === family &&
          one.table === table &&
          one.fwmark === mark &&
          (one.fwmask ?? WHOLE_MARK) === WHOLE_MARK &&
          one.source === undefined &&
          one.destination === undefined &&
          one.iif === undefined,
      );
      if (rule !== undefined) rules.delete(rule);
      else {
        addRules.push({ family, priority: TUNNEL_PRIORITY, table, fwmark: mark, fwmask: WHOLE_MARK });
        differences.push({ item: describeRule(family, mark), desired: 'present', observed: null });
      }
    }
  for (const rule of rules)
    differences.push({ item: describeRule(rule.family, rule.table), desired: null, observed: 'present' });
  for (const route of routes)
    differences.push({
      item: describeRoute(route.family, route.table),
      desired: null,
      observed: 'present',
    });
  return {
    differences,
    addRoutes,
    addRules,
    deleteRules: Array.from(rules, toRuleRequest),
    deleteRoutes: Array.from(routes, toRouteRequest),
  };
}

/** What is new comes before the table marks packets for it; what is gone goes after. */
export async function addTunnelRouting(kernel: Pick<Kernel, 'rt'>, plan: TunnelRoutingPlan): Promise<void> {
  // A route to a device that was made anew stands in the way of its successor.
  for (const route of plan.deleteRoutes) await kernel.rt.deleteRoute(route);
  for (const route of plan.addRoutes) await kernel.rt.addRoute(route);
  for (const rule of plan.addRules) await kernel.rt.addRule(rule);
}

export async function deleteTunnelRouting(
  kernel: Pick<Kernel, 'rt'>,
  plan: TunnelRoutingPlan,
): Promise<void> {
  for (const rule of plan.deleteRules) await kernel.rt.deleteRule(rule);
}

const describeRoute = (family: IpFamily, table: number): string =>
  `route ${ANYWHERE[family]} table 0x${table.toString(16)}`;
const describeRule = (family: IpFamily, mark: number): string =>
  `ip rule ${TUNNEL_PRIORITY} ${family} fwmark 0x${mark.toString(16)}`;

const toRuleRequest = ({
  family,
  priority,
  table,
  fwmark,
  fwmask,
  source,
  iif,
}: PolicyRule): RuleRequest => ({
  family,
  priority,
  table,
  ...(fwmark === undefined ? {} : { fwmark }),
  ...(fwmask === undefined ? {} : { fwmask }),
  ...(source === undefined ? {} : { source }),
  ...(iif === undefined ? {} : { iif }),
});

const toRouteRequest = ({ family, table, destination, oif, metric }: Route): RouteRequest => ({
  family,
  table,
  type: 'unicast',
  destination,
  ...(oif === undefined ? {} : { oif }),
  ...(metric === 0 ? {} : { metric }),
});
