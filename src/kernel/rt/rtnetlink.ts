/** Links, addresses, routes and policy rules over rtnetlink. */
import type { NativeAddon } from '../../native/addon.ts';
import { readHost32, writeHost32 } from '../../native/byte-order.ts';
import {
  type Address,
  type IpFamily,
  KernelError,
  type Link,
  type MacvlanRequest,
  type PolicyRule,
  type Route,
  type RouteRequest,
  type Rtnetlink,
  type RuleRequest,
} from '../contract.ts';
import { decodeAttributes, type Of, type Schema } from '../netlink/codec.ts';
import { Datagram, NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL } from '../netlink/datagram.ts';
import { openNetlinkSocket, type ReceivedMessage } from '../netlink/socket.ts';
import {
  canonicalCidr,
  cidrText,
  familyNumber,
  familyOf,
  hexOfAddress,
  networkOf,
  parseCidr,
  textOfAddress,
} from './cidr.ts';
import {
  ARCTIC_PROTOCOL,
  addressSchema,
  linkSchema,
  MACVLAN_MODES,
  NETLINK_ROUTE,
  RTM,
  routeSchema,
  ruleSchema,
} from './schema.ts';

const IFF_UP = 0x1;
const IFF_LOWER_UP = 0x10000;
const RTEXT_FILTER_SKIP_STATS = 1 << 3;
const RT_SCOPE_UNIVERSE = 0;
const RT_SCOPE_LINK = 253;
const RT_SCOPE_HOST = 254;
/** In a deletion: whatever the scope. */
const RT_SCOPE_NOWHERE = 255;
const RTM_F_CLONED = 0x200;
const FR_ACT_TO_TBL = 1;
/** rtm_table and the rule's table are 8 bits; RTA_TABLE and FRA_TABLE carry more. */
const RT_TABLE_UNSPEC = 0;
const ROUTE_TYPES = { unicast: 1, local: 2, blackhole: 6, unreachable: 7, throw: 9 } as const;
/** Dumps another program's changes may spoil before we give up. */
const ATTEMPTS = 20;

export interface RtnetlinkService extends Rtnetlink {
  readonly portId: number;
  /** Whether the kernel has the MACVLAN driver, asked in a way that cannot create one. */
  probeMacvlan(): Promise<boolean>;
  close(): Promise<void>;
}

/** struct ifinfomsg: family u8, pad u8, type u16, index s32, flags u32, change u32. */
function linkHeader(index = 0, flags = 0, change = 0): Buffer {
  const header = Buffer.alloc(16);
  writeHost32(header, index, 4);
  writeHost32(header, flags, 8);
  writeHost32(header, change, 12);
  return header;
}

/** struct ifaddrmsg: family, prefix length, flags, scope (u8 each), index u32. */
function addressHeader(family: number, prefixLength: number, index: number): Buffer {
  const header = Buffer.alloc(8);
  header.set([family, prefixLength, 0, RT_SCOPE_UNIVERSE]);
  writeHost32(header, index, 4);
  return header;
}

/** struct rtmsg and struct fib_rule_hdr: eight u8, flags u32. */
function eightBytes(...values: readonly number[]): Buffer {
  const header = Buffer.alloc(12);
  header.set(values);
  return header;
}

const shortTable = (table: number) => (table < 256 ? table : RT_TABLE_UNSPEC);

export function openRtnetlink(addon: NativeAddon, netnsPath: string | undefined): RtnetlinkService {
  const socket = openNetlinkSocket(addon, { protocol: NETLINK_ROUTE, netnsPath, strict: true });

  async function change<S extends Schema>(
    type: number,
    flags: number,
    header: Buffer,
    subject: string,
    schema: S,
    value: Of<S>,
    harmless: readonly string[] = [],
  ): Promise<boolean> {
    const datagram = new Datagram(512);
    datagram.add({ type, flags: flags | NLM_F_ACK, header, subject }, schema, value);
    try {
      await socket.request(datagram);
      return true;
    } catch (error) {
      if (error instanceof KernelError && harmless.includes(error.code)) return false;
      throw error;
    }
  }

  async function list<S extends Schema, T>(
    type: number,
    header: Buffer,
    subject: string,
    schema: S,
    filter: Of<S>,
    read: (value: Of<S>, message: ReceivedMessage) => T | undefined,
  ): Promise<T[]> {
    for (let attempt = 1; ; attempt += 1) {
      const datagram = new Datagram(256);
      datagram.add({ type, flags: NLM_F_DUMP, header, subject }, schema, filter);
      const items: T[] = [];
      try {
        await socket.dump(datagram, (message) => {
          const value = decodeAttributes(schema, message.bytes, message.start + header.length, message.end);
          const item = read(value, message);
          if (item !== undefined) items.push(item);
        });
        return items;
      } catch (error) {
        if (!(error instanceof KernelError) || error.code !== 'EINTR' || attempt >= ATTEMPTS) throw error;
      }
    }
  }

  const links = () =>
    list(
      RTM.getLink,
      linkHeader(),
      'list links',
      linkSchema,
      { extensionMask: RTEXT_FILTER_SKIP_STATS },
      readLink,
    );

  const addresses = (linkIndex?: number) =>
    list(
      RTM.getAddress,
      addressHeader(0, 0, linkIndex ?? 0),
      'list addresses',
      addressSchema,
      {},
      (value, message) => {
        const address = readAddress(value, message);
        return linkIndex === undefined || address?.linkIndex === linkIndex ? address : undefined;
      },
    );

  async function routes(
    filter: { readonly family?: IpFamily; readonly table?: number } = {},
  ): Promise<Route[]> {
    const families: readonly IpFamily[] = filter.family === undefined ? ['ipv4', 'ipv6'] : [filter.family];
    const found: Route[] = [];
    for (const family of families) {
      const header = eightBytes(familyNumber(family));
      const asked = filter.table === undefined ? {} : { table: filter.table };
      const part = await emptyWhere(['ENOENT', 'EAFNOSUPPORT', 'EOPNOTSUPP'], () =>
        list(RTM.getRoute, header, 'list routes', routeSchema, asked, readRoute),
      );
      found.push(...part.filter((route) => filter.table === undefined || route.table === filter.table));
    }
    return found;
  }

  async function rules(family?: IpFamily): Promise<PolicyRule[]> {
    const families: readonly IpFamily[] = family === undefined ? ['ipv4', 'ipv6'] : [family];
    const found: PolicyRule[] = [];
    for (const each of families) {
      const header = eightBytes(familyNumber(each));
      found.push(
        ...(await emptyWhere(['EAFNOSUPPORT', 'EOPNOTSUPP'], () =>
          list(RTM.getRule, header, 'list rules', ruleSchema, {}, readRule),
        )),
      );
    }
    return found;
  }

  async function createMacvlan(request: MacvlanRequest): Promise<Link> {
    const subject = `create interface ${request.name} on device ${request.parentIndex}`;
    await change(RTM.newLink, NLM_F_CREATE | NLM_F_EXCL, linkHeader(), subject, linkSchema, {
      name: request.name,
      link: request.parentIndex,
      mac: request.mac.replaceAll(':', '').toLowerCase(),
      mtu: request.mtu,
      info: { kind: 'macvlan', data: { mode: MACVLAN_MODES[request.mode] } },
    });
    const made = (await links()).find((link) => link.name === request.name);
    if (made === undefined)
      throw new KernelError('ENODEV', 19, subject, 'it vanished right after it was made');
    try {
      // The kernel ignores IFLA_IFALIAS in a creation.
      await setLink(made.index, { alias: request.alias });
    } catch (error) {
      await deleteLink(made.index);
      throw error;
    }
    return { ...made, alias: request.alias };
  }

  async function setLink(
    index: number,
    wanted: { readonly up?: boolean; readonly mtu?: number; readonly alias?: string },
  ): Promise<void> {
    const header = linkHeader(index, wanted.up === true ? IFF_UP : 0, wanted.up === undefined ? 0 : IFF_UP);
    const value = { mtu: wanted.mtu, alias: wanted.alias };
    await change(RTM.setLink, 0, header, `change device ${index}`, linkSchema, value);
  }

  async function deleteLink(index: number): Promise<void> {
    await change(RTM.deleteLink, 0, linkHeader(index), `delete device ${index}`, linkSchema, {}, ['ENODEV']);
  }

  async function addAddress(linkIndex: number, cidr: string): Promise<void> {
    const { family, bytes, prefixLength } = parseCidr(cidr);
    const header = addressHeader(familyNumber(family), prefixLength, linkIndex);
    const address = bytes.toString('hex');
    await change(
      RTM.newAddress,
      NLM_F_CREATE | NLM_F_EXCL,
      header,
      `add address ${cidr} to device ${linkIndex}`,
      addressSchema,
      { address, local: address, protocol: ARCTIC_PROTOCOL },
      ['EEXIST'],
    );
  }

  async function deleteAddress(linkIndex: number, cidr: string): Promise<void> {
    const { family, bytes, prefixLength } = parseCidr(cidr);
    const header = addressHeader(familyNumber(family), prefixLength, linkIndex);
    const address = bytes.toString('hex');
    const subject = `delete address ${cidr} from device ${linkIndex}`;
    const harmless = ['EADDRNOTAVAIL', 'ENODEV'];
    await change(RTM.deleteAddress, 0, header, subject, addressSchema, { address, local: address }, harmless);
  }

  async function addRoute(route: RouteRequest): Promise<void> {
    const subject = `add route ${route.destination} to table ${route.table}`;
    const flags = NLM_F_CREATE | NLM_F_EXCL;
    const header = routeHeader(route, routeScope(route));
    if (await change(RTM.newRoute, flags, header, subject, routeSchema, routeValue(route), ['EEXIST']))
      return;
    // EEXIST only means same destination and metric.
    const there = await routes({ family: route.family, table: route.table });
    if (there.some((each) => isSameRoute(each, route))) return;
    throw new KernelError('EEXIST', 17, subject, 'another route to the same destination is in its place');
  }

  async function deleteRoute(route: RouteRequest): Promise<void> {
    const subject = `delete route ${route.destination} from table ${route.table}`;
    const header = routeHeader(route, RT_SCOPE_NOWHERE);
    const harmless = ['ESRCH', 'ENOENT', 'ENODEV'];
    await change(RTM.deleteRoute, 0, header, subject, routeSchema, routeValue(route), harmless);
  }

  async function addRule(rule: RuleRequest): Promise<void> {
    const subject = `add rule ${rule.priority} to table ${rule.table}`;
    // Without EXCL the kernel would add a second, identical rule.
    const flags = NLM_F_CREATE | NLM_F_EXCL;
    await change(RTM.newRule, flags, ruleHeader(rule), subject, ruleSchema, ruleValue(rule), ['EEXIST']);
  }

  async function deleteRule(rule: RuleRequest): Promise<void> {
    const subject = `delete rule ${rule.priority} to table ${rule.table}`;
    await change(RTM.deleteRule, 0, ruleHeader(rule), subject, ruleSchema, ruleValue(rule), [
      'ENOENT',
      'ESRCH',
    ]);
  }

  async function probeMacvlan(): Promise<boolean> {
    const value = { name: 'arctic-probe', link: 0x7fffffff, info: { kind: 'macvlan', data: { mode: 4 } } };
    try {
      await change(RTM.newLink, NLM_F_CREATE | NLM_F_EXCL, linkHeader(), 'probe macvlan', linkSchema, value);
    } catch (error) {
      // ENODEV: it looked for the parent, so the driver is there. EOPNOTSUPP: unknown device type.
      return error instanceof KernelError && error.code === 'ENODEV';
    }
    return true;
  }

  return {
    portId: socket.portId,
    links,
    addresses,
    routes,
    rules,
    createMacvlan,
    setLink,
    deleteLink,
    addAddress,
    deleteAddress,
    addRoute,
    deleteRoute,
    addRule,
    deleteRule,
    probeMacvlan,
    close: () => socket.close(),
  };
}

async function emptyWhere<T>(codes: readonly string[], read: () => Promise<T[]>): Promise<T[]> {
  try {
    return await read();
  } catch (error) {
    if (error instanceof KernelError && codes.includes(error.code)) return [];
    throw error;
  }
}

function readLink(value: Of<typeof linkSchema>, { bytes, start }: ReceivedMessage): Link {
  const index = readHost32(bytes, start + 4);
  const flags = readHost32(bytes, start + 8);
  return {
    index,
    name: value.name ?? '',
    kind: value.info?.kind,
    parentIndex: value.link === undefined || value.link <= 0 || value.link === index ? undefined : value.link,
    mac: value.mac?.replace(/..(?!$)/g, '$&:'),
    mtu: value.mtu ?? 0,
    up: (flags & IFF_UP) !== 0,
    carrier: (flags & IFF_LOWER_UP) !== 0,
    alias: value.alias,
  };
}

function readAddress(
  value: Of<typeof addressSchema>,
  { bytes, start }: ReceivedMessage,
): Address | undefined {
  const family = familyOf(bytes.readUInt8(start));
  if (family === undefined) return undefined;
  return {
    linkIndex: readHost32(bytes, start + 4),
    family,
    // On a point-to-point link `address` is the other end.
    cidr: cidrText(family, value.local ?? value.address, bytes.readUInt8(start + 1)),
    scope: bytes.readUInt8(start + 3),
    protocol: value.protocol,
  };
}

function readRoute(value: Of<typeof routeSchema>, { bytes, start }: ReceivedMessage): Route | undefined {
  const family = familyOf(bytes.readUInt8(start));
  if (family === undefined || (readHost32(bytes, start + 8) & RTM_F_CLONED) !== 0) return undefined;
  const type = bytes.readUInt8(start + 7);
  const names = Object.keys(ROUTE_TYPES) as (keyof typeof ROUTE_TYPES)[];
  return {
    family,
    table: value.table ?? bytes.readUInt8(start + 4),
    type: names.find((name) => ROUTE_TYPES[name] === type) ?? 'other',
    destination: cidrText(family, value.destination, bytes.readUInt8(start + 1)),
    gateway: textOfAddress(value.gateway ?? value.via?.slice(4)),
    oif: value.oif,
    preferredSource: textOfAddress(value.preferredSource),
    metric: value.metric ?? 0,
    protocol: bytes.readUInt8(start + 5),
    scope: bytes.readUInt8(start + 6),
  };
}

function readRule(value: Of<typeof ruleSchema>, { bytes, start }: ReceivedMessage): PolicyRule | undefined {
  const family = familyOf(bytes.readUInt8(start));
  if (family === undefined) return undefined;
  const prefix = (address: string | undefined, length: number) =>
    address === undefined ? undefined : cidrText(family, address, length);
  return {
    family,
    priority: value.priority ?? 0,
    table: value.table ?? bytes.readUInt8(start + 4),
    fwmark: value.fwmark,
    fwmask: value.fwmask,
    source: prefix(value.source, bytes.readUInt8(start + 2)),
    destination: prefix(value.destination, bytes.readUInt8(start + 1)),
    iif: value.iif,
    protocol: value.protocol ?? 0,
  };
}

function routeScope(route: RouteRequest): number {
  if (route.type === 'local') return RT_SCOPE_HOST;
  return route.gateway === undefined && route.family === 'ipv4' ? RT_SCOPE_LINK : RT_SCOPE_UNIVERSE;
}

function routeHeader(route: RouteRequest, scope: number): Buffer {
  const { prefixLength } = parseCidr(route.destination);
  const table = shortTable(route.table);
  const type = ROUTE_TYPES[route.type];
  return eightBytes(familyNumber(route.family), prefixLength, 0, 0, table, ARCTIC_PROTOCOL, scope, type);
}

function routeValue(route: RouteRequest): Of<typeof routeSchema> {
  const { prefixLength } = parseCidr(route.destination);
  return {
    destination: prefixLength === 0 ? undefined : hexOfAddress(networkOf(route.destination)),
    oif: route.oif,
    gateway: route.gateway === undefined ? undefined : hexOfAddress(route.gateway),
    metric: route.metric,
    preferredSource: route.preferredSource === undefined ? undefined : hexOfAddress(route.preferredSource),
    table: route.table,
  };
}

/** Whether what is there does what was asked; attributes not asked for do not matter. */
export function isSameRoute(there: Route, asked: RouteRequest): boolean {
  const same = (a: string | undefined, b: string | undefined) =>
    b === undefined || (a !== undefined && hexOfAddress(a) === hexOfAddress(b));
  return (
    there.family === asked.family &&
    there.table === asked.table &&
    there.type === asked.type &&
    there.destination === networkOf(asked.destination) &&
    (asked.gateway === undefined ? there.gateway === undefined : same(there.gateway, asked.gateway)) &&
    (asked.oif === undefined || there.oif === asked.oif) &&
    same(there.preferredSource, asked.preferredSource) &&
    (asked.metric === undefined || there.metric === asked.metric)
  );
}

function ruleHeader(rule: RuleRequest): Buffer {
  const source = rule.source === undefined ? 0 : parseCidr(rule.source).prefixLength;
  return eightBytes(familyNumber(rule.family), 0, source, 0, shortTable(rule.table), 0, 0, FR_ACT_TO_TBL);
}

function ruleValue(rule: RuleRequest): Of<typeof ruleSchema> {
  return {
    source: rule.source === undefined ? undefined : hexOfAddress(canonicalCidr(rule.source)),
    iif: rule.iif,
    priority: rule.priority,
    fwmark: rule.fwmark,
    fwmask: rule.fwmask,
    table: rule.table,
    protocol: ARCTIC_PROTOCOL,
  };
}
