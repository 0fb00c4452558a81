import type { ServiceId } from '../../events/brand.ts';
import type { DesiredInterface } from '../../projections/desired/contract.ts';
import {
  type Address,
  type AddressConflict,
  type Kernel,
  LINK_GROUP,
  type Link,
  type Route,
} from '../kernel/contract.ts';
import { canonicalCidr } from '../kernel/rt/cidr.ts';
import type { Difference, Reconciler } from './contract.ts';
import { explainDevice } from './network/refusal.ts';
import {
  addSources,
  allSources,
  type ObservedSources,
  observeSources,
  planSources,
  removeSources,
  type SourcePlan,
  sourceRouting,
} from './network/source-routing.ts';
import type { PlanWithProblems, Problem } from './pass.ts';

export interface NetworkOptions {
  /** PARENT_INTERFACE; undefined: the interface of the default route. */
  readonly parentInterface: string | undefined;
}

export interface NetworkDeps {
  readonly kernel: Pick<Kernel, 'rt' | 'claims'>;
  readonly desired: () => readonly DesiredInterface[];
}

export interface ObservedNetwork {
  readonly links: readonly Link[];
  readonly addresses: readonly Address[];
  readonly conflicts: readonly AddressConflict[];
  readonly defaultRoutes: readonly Route[];
  readonly sources: ObservedSources;
}

/** Steps in the order they are taken. */
export type NetworkStep =
  | { readonly kind: 'delete'; readonly index: number; readonly name: string }
  | { readonly kind: 'create'; readonly desired: DesiredInterface; readonly parentIndex: number }
  | { readonly kind: 'up'; readonly index: number }
  | { readonly kind: 'delete-address'; readonly index: number; readonly cidr: string }
  | { readonly kind: 'add-address'; readonly index: number; readonly cidr: string };

export interface NetworkPlan extends PlanWithProblems {
  readonly steps: readonly NetworkStep[];
  readonly sources: SourcePlan;
  readonly defaultRoutes: readonly Route[];
}

/** IFA scope of link-local addresses (rtnetlink): the kernel makes those itself. */
const SCOPE_LINK = 253;
const MAIN_TABLE = 254;

/** How our devices are told from others: by alias, never by name alone. */
export const aliasOf = (service: string): string => `arctic:${service}`;
const isOurs = (link: Link): boolean => link.alias?.startsWith('arctic:svc_') === true || isUnfinished(link);
/** Ours, made by an agent that was killed before it could set the alias, or robbed of it. */
const isUnfinished = (link: Link): boolean =>
  link.alias === undefined &&
  link.group === LINK_GROUP &&
  link.kind === 'macvlan' &&
  link.name.startsWith('svc_');

/** One MACVLAN for each service of this host that asks for an interface. */
export const createNetworkReconciler = (
  options: NetworkOptions,
  deps: NetworkDeps,
): Reconciler<readonly DesiredInterface[], ObservedNetwork, NetworkPlan> => {
  const { rt, claims } = deps.kernel;

  async function observe(): Promise<ObservedNetwork> {
    const links = await rt.links();
    const ours = links.filter(isOurs);
    const addresses: Address[] = [];
    for (const link of ours) addresses.push(...(await rt.addresses(link.index)));
    // A router may hold a million routes: they are listed only where a default route is asked for.
    const desired = deps.desired();
    const routes = desired.length > 0 ? await rt.routes({ table: MAIN_TABLE }) : [];
    return {
      links,
      addresses,
      conflicts: await claims.hold(
        desired.flatMap((one) => {
          const link = ours.find(({ name, mac }) => name === one.name && mac === one.mac);
          const address = addressOf(one.ipv4_cidr);
          return link === undefined || address === undefined
            ? []
            : [{ linkIndex: link.index, mac: one.mac, address }];
        }),
        new Set(links.flatMap(({ mac }) => mac ?? [])),
      ),
      sources: await observeSources(rt, desired),
      defaultRoutes: routes.filter(
        (route) => route.destination === '0.0.0.0/0' || route.destination === '::/0',
      ),
    };
  }

  async function take(step: NetworkStep, defaultRoutes: readonly Route[]): Promise<void> {
    if (step.kind === 'delete') await rt.deleteLink(step.index);
    else if (step.kind === 'up') await rt.setLink(step.index, { up: true });
    else if (step.kind === 'add-address') await rt.addAddress(step.index, step.cidr);
    else if (step.kind === 'delete-address') await rt.deleteAddress(step.index, step.cidr);
    else {
      const { desired, parentIndex } = step;
      const { name, mac } = desired;
      const link = await rt.createMacvlan({
        name,
        parentIndex,
        mode: 'bridge',
        mac,
        alias: aliasOf(desired.service_id),
      });
      for (const cidr of cidrsOf(desired)) await rt.addAddress(link.index, cidr);
      await rt.setLink(link.index, { up: true });
      await addSources(rt, sourceRouting(desired, link.index, defaultRoutes));
    }
  }

  return {
    name: 'network',
    desired: deps.desired,
    observe,
    plan: (desired, observed) => planNetwork(desired, observed, options.parentInterface),
    async apply(plan) {
      await removeSources(rt, plan.sources.remove);
      try {
        for (const step of plan.steps) await take(step, plan.defaultRoutes);
      } catch (error) {
        throw await explainDevice(error, rt);
      }
      await addSources(rt, plan.sources.add);
    },
    async cleanup(scope) {
      await claims.hold([], new Set());
      if (scope === 'shutdown') return;
      await removeSources(rt, await allSources(rt));
      for (const link of await rt.links()) if (isOurs(link)) await rt.deleteLink(link.index);
    },
  };
};

const cidrsOf = ({ ipv4_cidr, ipv6_cidr }: DesiredInterface): readonly string[] =>
  [ipv4_cidr, ipv6_cidr].filter((cidr) => cidr !== null).map((cidr) => canonicalCidr(cidr));

/** Of a CIDR, without its length. */
const addressOf = (cidr: string | null): string | undefined => cidr?.split('/')[0];

/** Pure. What cannot be done for a service is a problem of that service, and no other waits for it. */
export function planNetwork(
  desired: readonly DesiredInterface[],
  observed: ObservedNetwork,
  parentInterface: string | undefined,
): NetworkPlan {
  const steps: NetworkStep[] = [];
  const differences: Difference[] = [];
  const problems: Problem[] = [];
  const byName = new Map(observed.links.map((link) => [link.name, link]));
  const parent = findParent(observed, parentInterface);
  const wanted = new Map<string, DesiredInterface>();

  const kept: { readonly one: DesiredInterface; readonly link: Link }[] = [];
  /** The device stays, and its addresses become what is desired. */
  function keep(one: DesiredInterface, link: Link): void {
    const conflict = observed.conflicts.find(({ linkIndex }) => linkIndex === link.index);
    // As the kernel does with IPv6: an address that another host had before is not used. One that we had is kept.
    const usable = conflict?.before === true ? { ...one, ipv4_cidr: null } : one;
    kept.push({ one: usable, link });
    planAddresses(usable, link, observed.addresses, steps, differences);
    const contested = (cidr: string | null, other: string): Problem => ({
      service_id: one.service_id,
      reason: `another host${other} on the network of ${one.name} has the address ${cidr} (duplicate address detection): give the service another`,
    });
    if (conflict !== undefined) problems.push(contested(one.ipv4_cidr, ` (${conflict.other})`));
    for (const address of observed.addresses)
      if (address.linkIndex === link.index && address.duplicate) problems.push(contested(address.cidr, ''));
  }

  for (const one of desired) {
    const holder = wanted.get(one.name);
    if (holder === undefined) wanted.set(one.name, one);
    else
      problems.push({
        service_id: one.service_id,
        reason: `interface name ${one.name} is taken by ${holder.service_id}, whose id begins alike: delete and create this service again`,
      });
  }

  for (const link of observed.links) {
    if (!isOurs(link)) continue;
    const one = wanted.get(link.name);
    if (one !== undefined && link.alias === aliasOf(one.service_id)) continue;
    steps.push({ kind: 'delete', index: link.index, name: link.name });
    differences.push({
      item: `interface ${link.name}`,
      desired: null,
      observed: `macvlan ${link.alias ?? 'without alias'}`,
    });
    byName.delete(link.name);
  }

  for (const one of wanted.values()) {
    const { service_id } = one;
    const link = byName.get(one.name);
    if (link !== undefined && !isOurs(link)) {
      problems.push({
        service_id,
        reason: `interface ${one.name} exists and is not Arctic's (${link.kind ?? 'physical device'}): rename or remove it`,
      });
      continue;
    }
    if (parent.link === undefined) {
      problems.push({ service_id, reason: parent.reason });
      // A parent that was renamed still carries it.
      if (link?.kind === 'macvlan') keep(one, link);
      continue;
    }
    const description = `macvlan on ${parent.link.name}, ${[one.mac, ...cidrsOf(one)].join(', ')}`;
    if (link === undefined) {
      steps.push({ kind: 'create', desired: one, parentIndex: parent.link.index });
      differences.push({ item: `interface ${one.name}`, desired: description, observed: null, service_id });
    } else if (isWrongDevice(link, one, parent.link)) {
      // None of these can be changed on a live MACVLAN without a gap, so it is made anew.
      steps.push({ kind: 'delete', index: link.index, name: link.name });
      steps.push({ kind: 'create', desired: one, parentIndex: parent.link.index });
      differences.push({
        item: `interface ${one.name}`,
        desired: description,
        observed: `${link.kind ?? 'device'} on ${nameOf(observed.links, link.parentIndex)}, ${link.mac}`,
        service_id,
      });
    } else keep(one, link);
  }
  const sources = planSources(
    kept.map(({ one, link }) => ({
      one,
      routing: sourceRouting(one, link.index, observed.defaultRoutes),
    })),
    observed.sources,
  );
  return {
    steps,
    sources,
    defaultRoutes: observed.defaultRoutes,
    differences: [...differences, ...sources.differences],
    problems,
  };
}

const isWrongDevice = (link: Link, one: DesiredInterface, parent: Link): boolean =>
  link.kind !== 'macvlan' || link.mac !== one.mac || link.parentIndex !== lowest(parent);

/** A MACVLAN on a MACVLAN hangs on the lower device in the kernel. */
const lowest = (parent: Link): number =>
  parent.kind === 'macvlan' && parent.parentIndex !== undefined ? parent.parentIndex : parent.index;

const nameOf = (links: readonly Link[], index: number | undefined): string =>
  links.find((link) => link.index === index)?.name ?? 'nothing';

function planAddresses(
  one: DesiredInterface,
  link: Link,
  addresses: readonly Address[],
  steps: NetworkStep[],
  differences: Difference[],
): void {
  const service_id: ServiceId = one.service_id;
  const held = new Set(
    addresses
      .filter((address) => address.linkIndex === link.index && address.scope !== SCOPE_LINK)
      .map((address) => address.cidr),
  );
  for (const cidr of cidrsOf(one)) {
    if (held.delete(cidr)) continue;
    steps.push({ kind: 'add-address', index: link.index, cidr });
    differences.push({
      item: `address ${cidr} of ${one.name}`,
      desired: 'present',
      observed: null,
      service_id,
    });
  }
  for (const cidr of held) {
    steps.push({ kind: 'delete-address', index: link.index, cidr });
    differences.push({
      item: `address ${cidr} of ${one.name}`,
      desired: null,
      observed: 'present',
      service_id,
    });
  }
  if (!link.up) {
    steps.push({ kind: 'up', index: link.index });
    differences.push({ item: `interface ${one.name} state`, desired: 'up', observed: 'down', service_id });
  }
}

type Parent = { readonly link: Link } | { readonly link: undefined; readonly reason: string };

/** The configured parent, or that of the default route: IPv4 first, then the lowest metric. */
function findParent(observed: ObservedNetwork, configured: string | undefined): Parent {
  if (configured !== undefined) {
    const link = observed.links.find((one) => one.name === configured);
    if (link === undefined)
      return { link: undefined, reason: `parent interface ${configured} (PARENT_INTERFACE) does not exist` };
    const fault = parentFault(link);
    return fault === undefined
      ? { link }
      : { link: undefined, reason: `parent interface ${configured} (PARENT_INTERFACE) ${fault}` };
  }
  const [route] = [...observed.defaultRoutes]
    .filter((one) => one.oif !== undefined)
    .sort((a, b) => (a.family === b.family ? a.metric - b.metric : a.family === 'ipv4' ? -1 : 1));
  const link = observed.links.find((one) => one.index === route?.oif);
  return link && !isOurs(link)
    ? { link }
    : {
        link: undefined,
        reason: 'no parent interface: the host has no default route; set PARENT_INTERFACE',
      };
}

/** What keeps a device from carrying a MACVLAN. Without carrier it can: the device comes up with its cable. */
function parentFault(link: Link): string | undefined {
  if (link.name === 'lo') return 'is the loopback, which no other host can reach';
  if (isOurs(link)) return "is one of Arctic's own interfaces";
  if (link.mac === undefined || link.kind === 'tun' || link.kind === 'wireguard')
    return 'has no Ethernet addresses, which a MACVLAN needs';
  if (!link.up) return `is down: ip link set ${link.name} up`;
  return undefined;
}
