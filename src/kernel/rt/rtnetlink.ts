/** Links, addresses, routes and policy rules over rtnetlink. */
import type { NativeAddon } from '../../native/addon.ts';
import {
  type IpFamily,
  KernelError,
  LINK_GROUP,
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
import { familyNumber, parseCidr } from './cidr.ts';
import { readAddress, readLink, readRoute, readRule } from './decode.ts';
import {
  addressHeader,
  eightBytes,
  isSameRoute,
  linkHeader,
  RT_SCOPE_NOWHERE,
  routeHeader,
  routeScope,
  routeValue,
  ruleHeader,
  ruleValue,
} from './encode.ts';
import {
  ARCTIC_PROTOCOL,
  addressSchema,
  IFF_UP,
  linkSchema,
  MACVLAN_MODES,
  NETLINK_ROUTE,
  RTM,
  routeSchema,
  ruleSchema,
} from './schema.ts';

const RTEXT_FILTER_SKIP_STATS = 1 << 3;
/** Dumps another program's changes may spoil before we give up. */
const ATTEMPTS = 20;

export interface RtnetlinkService extends Rtnetlink {
  readonly portId: number;
  /** Whether the kernel has the MACVLAN driver, asked in a way that cannot create one. */
  probeMacvlan(): Promise<boolean>;
  close(): Promise<void>;
}

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
      group: LINK_GROUP,
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
