/** Links, addresses, routes and policy rules in memory, as one network namespace holds them. */
import {
  type Address,
  type IpFamily,
  KernelError,
  type KernelNotice,
  LINK_GROUP,
  type Link,
  type PolicyRule,
  type Route,
  type RouteRequest,
  type Rtnetlink,
  type RuleRequest,
} from '../contract.ts';
import { canonicalCidr, networkOf, parseCidr } from './cidr.ts';
import { isSameRoute } from './encode.ts';
import { ARCTIC_PROTOCOL } from './schema.ts';

const LOOPBACK_MTU = 65_536;
const ETHERNET_MTU = 1500;
const RT_SCOPE_LINK = 253;
const RT_SCOPE_HOST = 254;
/** What the kernel gives an IPv6 route without a metric (IP6_RT_PRIO_USER). */
const IPV6_METRIC = 1024;
const LONGEST_NAME = 15;

export interface FakeNetwork {
  /**
   * The network through one process's sockets; `changed` hears each subsystem it changes, `message` each message it sends, and
   * may refuse it by throwing.
   */
  as(changed: (subsystem: KernelNotice['subsystem']) => void, message?: (subject: string) => void): Rtnetlink;
  /** Plugs in a device, up and with carrier unless told otherwise. */
  addDevice(device: Partial<Omit<Link, 'index'>> & { readonly name: string }): Link;
}

export function createFakeNetwork(): FakeNetwork {
  const links: Link[] = [];
  const addresses: Address[] = [];
  const routes: Route[] = [];
  const rules: PolicyRule[] = [];
  let nextIndex = 1;

  function addDevice(device: Partial<Omit<Link, 'index'>> & { readonly name: string }): Link {
    const link: Link = {
      kind: undefined,
      parentIndex: undefined,
      mac: undefined,
      mtu: ETHERNET_MTU,
      up: true,
      carrier: true,
      alias: undefined,
      group: 0,
      ...device,
      index: nextIndex,
    };
    nextIndex += 1;
    links.push(link);
    return link;
  }
  addDevice({ name: 'lo', mtu: LOOPBACK_MTU, mac: '00:00:00:00:00:00' });
  for (const family of ['ipv4', 'ipv6'] as const) {
    const standard =
      family === 'ipv4'
        ? ([
            [0, 255],
            [32766, 254],
            [32767, 253],
          ] as const)
        : ([
            [0, 255],
            [32766, 254],
          ] as const);
    for (const [priority, table] of standard) rules.push({ ...bare(family), priority, table, protocol: 2 });
  }

  function linkAt(index: number, subject: string): Link {
    const link = links.find((each) => each.index === index);
    if (link === undefined) throw new KernelError('ENODEV', 19, subject, 'no such device');
    return link;
  }

  function removeWhere<T>(items: T[], matches: (item: T) => boolean): boolean {
    const before = items.length;
    for (let index = items.length - 1; index >= 0; index -= 1) {
      const item = items[index];
      if (item !== undefined && matches(item)) items.splice(index, 1);
    }
    return items.length < before;
  }

  function as(
    changed: (subsystem: KernelNotice['subsystem']) => void,
    message: (subject: string) => void = () => undefined,
  ): Rtnetlink {
    function deleteLink(index: number): void {
      const children = links.filter((link) => link.kind === 'macvlan' && link.parentIndex === index);
      for (const child of children) deleteLink(child.index);
      removeWhere(addresses, (address) => address.linkIndex === index);
      removeWhere(routes, (route) => route.oif === index);
      if (removeWhere(links, (link) => link.index === index)) changed('link');
    }

    return {
      links: async () => {
        message('list links');
        return [...links];
      },
      addresses: async (linkIndex) => {
        message('list addresses');
        return addresses.filter((address) => linkIndex === undefined || address.linkIndex === linkIndex);
      },
      routes: async (filter = {}) => {
        for (const family of families(filter.family)) message(`list routes of ${family}`);
        return routes.filter(
          (route) =>
            (filter.family === undefined || route.family === filter.family) &&
            (filter.table === undefined || route.table === filter.table),
        );
      },
      rules: async (family) => {
        for (const each of families(family)) message(`list rules of ${each}`);
        return rules
          .filter((rule) => family === undefined || rule.family === family)
          .sort((a, b) => a.family.localeCompare(b.family) || a.priority - b.priority);
      },

      createMacvlan: async (request) => {
        const subject = `create interface ${request.name} on device ${request.parentIndex}`;
        message(subject);
        if (request.name === '' || request.name.length > LONGEST_NAME) {
          throw new KernelError('ERANGE', 34, subject, 'the name must have 1 to 15 characters');
        }
        if (links.some((link) => link.name === request.name)) {
          throw new KernelError('EEXIST', 17, subject, 'exists already');
        }
        const parent = linkAt(request.parentIndex, subject);
        const made = addDevice({
          name: request.name,
          kind: 'macvlan',
          // A MACVLAN on a MACVLAN stands on the device below.
          parentIndex: parent.kind === 'macvlan' ? parent.parentIndex : parent.index,
          mac: request.mac.toLowerCase(),
          mtu: request.mtu ?? parent.mtu,
          up: false,
          carrier: false,
          alias: undefined,
          group: LINK_GROUP,
        });
        changed('link');
        message('list links');
        try {
          // The kernel ignores an alias in a creation.
          message(`change device ${made.index}`);
        } catch (error) {
          message(`delete device ${made.index}`);
          deleteLink(made.index);
          throw error;
        }
        const named = { ...made, alias: request.alias };
        links.splice(links.indexOf(made), 1, named);
        return named;
      },
      setLink: async (index, wanted) => {
        message(`change device ${index}`);
        const link = linkAt(index, `change device ${index}`);
        const next: Link = {
          ...link,
          ...(wanted.up === undefined ? {} : { up: wanted.up, carrier: wanted.up }),
          ...(wanted.mtu === undefined ? {} : { mtu: wanted.mtu }),
          ...(wanted.alias === undefined ? {} : { alias: wanted.alias }),
        };
        links.splice(links.indexOf(link), 1, next);
        changed('link');
      },
      deleteLink: async (index) => {
        message(`delete device ${index}`);
        deleteLink(index);
      },

      addAddress: async (linkIndex, cidr) => {
        const { family } = parseCidr(cidr);
        message(`add address ${cidr} to device ${linkIndex}`);
        linkAt(linkIndex, `add address ${cidr} to device ${linkIndex}`);
        const text = canonicalCidr(cidr);
        if (addresses.some((address) => address.linkIndex === linkIndex && address.cidr === text)) return;
        addresses.push({
          linkIndex,
          family,
          cidr: text,
          scope: 0,
          protocol: ARCTIC_PROTOCOL,
          duplicate: false,
        });
        changed('address');
      },
      deleteAddress: async (linkIndex, cidr) => {
        message(`delete address ${cidr} from device ${linkIndex}`);
        const text = canonicalCidr(cidr);
        if (removeWhere(addresses, (each) => each.linkIndex === linkIndex && each.cidr === text))
          changed('address');
      },

      addRoute: async (request) => {
        const subject = `add route ${request.destination} to table ${request.table}`;
        message(subject);
        if (request.oif !== undefined) linkAt(request.oif, subject);
        const route = routeOf(request);
        const rival = routes.find(
          (each) =>
            each.family === route.family &&
            each.table === route.table &&
            each.destination === route.destination &&
            each.metric === route.metric,
        );
        if (rival !== undefined) {
          if (isSameRoute(rival, request)) return;
          throw new KernelError(
            'EEXIST',
            17,
            subject,
            'another route to the same destination is in its place',
          );
        }
        routes.push(route);
        changed('route');
      },
      deleteRoute: async (request) => {
        message(`delete route ${request.destination} from table ${request.table}`);
        const gone = (route: Route) => route.protocol === ARCTIC_PROTOCOL && isSameRoute(route, request);
        if (removeWhere(routes, gone)) changed('route');
      },

      addRule: async (request) => {
        message(`add rule ${request.priority} to table ${request.table}`);
        const rule = ruleOf(request);
        if (rules.some((each) => isSameRule(each, rule))) return;
        rules.push(rule);
        changed('rule');
      },
      deleteRule: async (request) => {
        message(`delete rule ${request.priority} to table ${request.table}`);
        const rule = ruleOf(request);
        if (removeWhere(rules, (each) => isSameRule(each, rule))) changed('rule');
      },
    };
  }

  return { as, addDevice };
}

const families = (one: IpFamily | undefined): readonly IpFamily[] =>
  one === undefined ? ['ipv4', 'ipv6'] : [one];

function bare(family: IpFamily): PolicyRule {
  return {
    family,
    priority: 0,
    table: 0,
    fwmark: undefined,
    fwmask: undefined,
    source: undefined,
    destination: undefined,
    iif: undefined,
    protocol: 0,
  };
}

function routeOf(request: RouteRequest): Route {
  const ipv6 = request.family === 'ipv6';
  const narrow = request.type === 'local' ? RT_SCOPE_HOST : request.gateway === undefined ? RT_SCOPE_LINK : 0;
  return {
    family: request.family,
    table: request.table,
    type: request.type,
    destination: networkOf(request.destination),
    gateway: request.gateway,
    oif: request.oif,
    preferredSource: request.preferredSource,
    metric: request.metric ?? (ipv6 ? IPV6_METRIC : 0),
    protocol: ARCTIC_PROTOCOL,
    scope: ipv6 ? 0 : narrow,
  };
}

function ruleOf(request: RuleRequest): PolicyRule {
  const { fwmark } = request;
  return {
    ...bare(request.family),
    priority: request.priority,
    table: request.table,
    fwmark,
    fwmask: request.fwmask ?? (fwmark === undefined ? undefined : 0xffffffff),
    source: request.source === undefined ? undefined : canonicalCidr(request.source),
    iif: request.iif,
    protocol: ARCTIC_PROTOCOL,
  };
}

function isSameRule(a: PolicyRule, b: PolicyRule): boolean {
  const keys = ['family', 'priority', 'table', 'fwmark', 'fwmask', 'source', 'destination', 'iif'] as const;
  return keys.every((key) => a[key] === b[key]);
}
