/** rtnetlink messages (linux/if_link.h, if_addr.h, rtnetlink.h, fib_rules.h). Integers are host-endian. */
import type { Schema } from '../netlink/codec.ts';

export const NETLINK_ROUTE = 0;

export const RTM = {
  newLink: 16,
  deleteLink: 17,
  getLink: 18,
  setLink: 19,
  newAddress: 20,
  deleteAddress: 21,
  getAddress: 22,
  newRoute: 24,
  deleteRoute: 25,
  getRoute: 26,
  newRule: 32,
  deleteRule: 33,
  getRule: 34,
  newNetconf: 80,
} as const;

export const RTNLGRP = {
  link: 1,
  ipv4Address: 5,
  ipv4Route: 7,
  ipv4Rule: 8,
  ipv6Address: 9,
  ipv6Route: 11,
  ipv6Rule: 19,
  ipv4Netconf: 24,
  ipv6Netconf: 25,
} as const;

export const linkSchema = {
  mac: [1, 'hex'],
  name: [3, 'str'],
  mtu: [4, 'u32'],
  /** The device this one stands on: a MACVLAN's parent, a veth's peer. */
  link: [5, 's32'],
  info: [
    18,
    'nest',
    {
      kind: [1, 'str'],
      data: [2, 'choice', 'kind', { macvlan: { mode: [1, 'u32'] }, veth: {}, tun: {} }],
    },
  ],
  alias: [20, 'str'],
  group: [27, 'u32'],
  extensionMask: [29, 'u32'],
  /** The namespace `link` lives in, when it is another one. */
  linkNamespace: [37, 's32'],
} as const satisfies Schema;

export const addressSchema = {
  address: [1, 'hex'],
  local: [2, 'hex'],
  label: [3, 'str'],
  flags: [8, 'u32'],
  protocol: [11, 'u8'],
} as const satisfies Schema;

export const routeSchema = {
  destination: [1, 'hex'],
  source: [2, 'hex'],
  iif: [3, 'u32'],
  oif: [4, 'u32'],
  gateway: [5, 'hex'],
  metric: [6, 'u32'],
  preferredSource: [7, 'hex'],
  table: [15, 'u32'],
  /** struct rtvia: family u16, address. */
  via: [18, 'hex'],
} as const satisfies Schema;

export const ruleSchema = {
  destination: [1, 'hex'],
  source: [2, 'hex'],
  iif: [3, 'str'],
  goto: [4, 'u32'],
  priority: [6, 'u32'],
  fwmark: [10, 'u32'],
  table: [15, 'u32'],
  fwmask: [16, 'u32'],
  oif: [17, 'str'],
  protocol: [21, 'u8'],
} as const satisfies Schema;

/** MACVLAN_MODE_* */
export const MACVLAN_MODES = { private: 1, vepa: 2, bridge: 4, passthru: 8 } as const;

/** RTPROT_* of routes, rules and addresses that are Arctic's; in the range left to programs (rtnetlink.h). */
export const ARCTIC_PROTOCOL = 200;

/** net_device_flags: administratively up. */
export const IFF_UP = 0x1;

/** RTN_* of the routes the contract names. */
export const ROUTE_TYPES = { unicast: 1, local: 2, blackhole: 6, unreachable: 7, throw: 9 } as const;
