/** What rtnetlink dumps say, as the contract's values. */
import { readHost32 } from '../../native/byte-order.ts';
import type { Address, Link, PolicyRule, Route } from '../contract.ts';
import type { Of } from '../netlink/codec.ts';
import type { ReceivedMessage } from '../netlink/socket.ts';
import { cidrText, familyOf, textOfAddress } from './cidr.ts';
import {
  type addressSchema,
  IFF_UP,
  type linkSchema,
  ROUTE_TYPES,
  type routeSchema,
  type ruleSchema,
} from './schema.ts';

const IFF_LOWER_UP = 0x10000;
const IFA_F_DADFAILED = 0x08;
const RTM_F_CLONED = 0x200;

export function readLink(value: Of<typeof linkSchema>, { bytes, start }: ReceivedMessage): Link {
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
    group: value.group ?? 0,
  };
}

export function readAddress(
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
    duplicate: ((value.flags ?? bytes.readUInt8(start + 2)) & IFA_F_DADFAILED) !== 0,
  };
}

export function readRoute(
  value: Of<typeof routeSchema>,
  { bytes, start }: ReceivedMessage,
): Route | undefined {
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

export function readRule(
  value: Of<typeof ruleSchema>,
  { bytes, start }: ReceivedMessage,
): PolicyRule | undefined {
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
