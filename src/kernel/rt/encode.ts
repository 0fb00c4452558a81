/** The fixed headers and attributes of rtnetlink requests. */
import { writeHost32 } from '../../native/byte-order.ts';
import type { Route, RouteRequest, RuleRequest } from '../contract.ts';
import type { Of } from '../netlink/codec.ts';
import { canonicalCidr, familyNumber, hexOfAddress, networkOf, parseCidr } from './cidr.ts';
import { ARCTIC_PROTOCOL, ROUTE_TYPES, type routeSchema, type ruleSchema } from './schema.ts';

const RT_SCOPE_UNIVERSE = 0;
const RT_SCOPE_LINK = 253;
const RT_SCOPE_HOST = 254;
/** In a deletion: whatever the scope. */
export const RT_SCOPE_NOWHERE = 255;
const FR_ACT_TO_TBL = 1;
/** rtm_table and the rule's table are 8 bits; RTA_TABLE and FRA_TABLE carry more. */
const RT_TABLE_UNSPEC = 0;

/** struct ifinfomsg: family u8, pad u8, type u16, index s32, flags u32, change u32. */
export function linkHeader(index = 0, flags = 0, change = 0): Buffer {
  const header = Buffer.alloc(16);
  writeHost32(header, index, 4);
  writeHost32(header, flags, 8);
  writeHost32(header, change, 12);
  return header;
}

/** struct ifaddrmsg: family, prefix length, flags, scope (u8 each), index u32. */
export function addressHeader(family: number, prefixLength: number, index: number): Buffer {
  const header = Buffer.alloc(8);
  header.set([family, prefixLength, 0, RT_SCOPE_UNIVERSE]);
  writeHost32(header, index, 4);
  return header;
}

/** struct rtmsg and struct fib_rule_hdr: eight u8, flags u32. */
export function eightBytes(...values: readonly number[]): Buffer {
  const header = Buffer.alloc(12);
  header.set(values);
  return header;
}

const shortTable = (table: number) => (table < 256 ? table : RT_TABLE_UNSPEC);

export function routeScope(route: RouteRequest): number {
  if (route.type === 'local') return RT_SCOPE_HOST;
  return route.gateway === undefined && route.family === 'ipv4' ? RT_SCOPE_LINK : RT_SCOPE_UNIVERSE;
}

export function routeHeader(route: RouteRequest, scope: number): Buffer {
  const { prefixLength } = parseCidr(route.destination);
  const table = shortTable(route.table);
  const type = ROUTE_TYPES[route.type];
  return eightBytes(familyNumber(route.family), prefixLength, 0, 0, table, ARCTIC_PROTOCOL, scope, type);
}

export function routeValue(route: RouteRequest): Of<typeof routeSchema> {
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

export function ruleHeader(rule: RuleRequest): Buffer {
  const source = rule.source === undefined ? 0 : parseCidr(rule.source).prefixLength;
  return eightBytes(familyNumber(rule.family), 0, source, 0, shortTable(rule.table), 0, 0, FR_ACT_TO_TBL);
}

export function ruleValue(rule: RuleRequest): Of<typeof ruleSchema> {
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
