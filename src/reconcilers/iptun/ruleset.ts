import { MARK } from '../../../projections/desired/contract.ts';
import type { NftChain, NftExpression, NftRule, NftSet } from '../../kernel/contract.ts';
import {
  compare,
  hostWord,
  IPPROTO_TCP,
  interfaceNameBytes,
  loadAddressType,
  loadCt,
  loadMeta,
  loadPayload,
  lookupMap,
  maskRegister,
  masquerade,
  matchCtState,
  matchFamily,
  matchInputInterface,
  matchL4Protocol,
  matchMark,
  storeCtMark,
  storeMeta,
  verdict,
} from '../../kernel/nft/expressions.ts';
import type { TableFrame } from '../firewall/ruleset.ts';
import { byFamily, selectChains } from '../firewall/select.ts';
import type { SecondLook } from '../firewall/swap.ts';
import { type DesiredTunnels, deviceName, marksOfServices } from './desired.ts';

/**
 * Compiles what is desired into `table inet arctic_iptun`. Pure.
 *
 *   prerouting   out of a tunnel: a new connection remembers the tunnel in its conntrack mark, and nothing more is decided.
 *                An answer goes the way its connection came: into that tunnel, or directly. What a route or an arrival
 *                interface claims gets the target peer's mark; an `ip rule` leads it to the peer's TUN device.
 *   output       the same for what this host sends itself.
 *   postrouting  what came out of a tunnel leaves as this host's own.
 *   ..._again    empty but while a table takes another's place (firewall/swap.ts).
 *
 * Never captured: TCP (the other engine's), what is addressed to this host or to a group, neighbour discovery, what carries
 * the own mark. An operator's mark on a packet is overwritten only where a route claims the packet.
 */
export const TUNNEL_TABLE = { family: 'inet', name: 'arctic_iptun' } as const;

/** NF_IP_PRI_MANGLE and NF_IP_PRI_NAT_SRC. */
const MANGLE = -150;
const NAT_SOURCE = 100;

const TUNNELS = 'tunnels';
const INTERFACES = 'interfaces';

/**
 * The table without its maps of routes, or undefined when this host has no tunnel. `owned` claims the owner flag, so that a
 * foreign `flush ruleset` passes it by; then it goes with the agent, as the devices do.
 */
export function compileTunnelRuleset(desired: DesiredTunnels, owned: boolean): TableFrame | undefined {
  if (desired.iptun.peers.length === 0) return undefined;
  const marks = marksOfServices(desired);
  const { classes } = desired.firewall;
  const interfaces = desired.firewall.services.filter(
    (service) => service.interface_name !== null && marks.has(service.service_id),
  );
  const sets: NftSet[] = [
    {
      name: TUNNELS,
      keyTypes: ['ifname'],
      dataType: 'mark',
      elements: desired.iptun.peers.map(({ mark }) => ({
        key: interfaceNameBytes(deviceName(mark)),
        data: hostWord(mark),
      })),
    },
  ];
  if (interfaces.length > 0)
    sets.push({
      name: INTERFACES,
      keyTypes: ['ifname'],
      dataType: 'mark',
      elements: interfaces.map((service) => ({
        key: interfaceNameBytes(service.interface_name ?? ''),
        data: hostWord(marks.get(service.service_id) ?? 0),
      })),
    });
  return {
    ...TUNNEL_TABLE,
    ...(owned ? { owned: true } : {}),
    sets,
    chains: [
      preroutingChain(interfaces.length > 0),
      outputChain,
      postroutingChain,
      ...secondLook,
      ...selectChains(classes),
    ],
  };
}

const accept = verdict('accept');
const REPLY = '01';
const RTN = { local: 2, broadcast: 3, anycast: 4, multicast: 5 } as const;
const IPPROTO_ICMPV6 = 58;
/** Router and neighbour solicitation and advertisement, redirect (RFC 4861): 133 to 137. */
const FIRST_NEIGHBOUR = '85';
const LAST_NEIGHBOUR = '89';

const notTcp: NftRule = {
  comment: "TCP is the TCP engine's",
  expressions: [...matchL4Protocol(IPPROTO_TCP), accept],
};

/** What stays on this host or its links. */
const notOurs: readonly NftRule[] = [
  ...Object.entries(RTN).map(([name, type]) => ({
    comment: `to a ${name} address`,
    expressions: [loadAddressType('destination'), compare('==', hostWord(type)), accept],
  })),
  {
    comment: 'neighbour discovery',
    expressions: [
      ...matchL4Protocol(IPPROTO_ICMPV6),
      loadPayload('transport', 0, 1),
      compare('>=', FIRST_NEIGHBOUR),
      compare('<=', LAST_NEIGHBOUR),
      accept,
    ],
  },
  {
    comment: 'to a link-local address',
    expressions: [
      ...matchFamily('ipv6'),
      loadPayload('network', 24, 2),
      maskRegister('ffc0'),
      compare('==', 'fe80'),
      accept,
    ],
  },
];

const loadTunnelOfInput = [loadMeta('iifname'), lookupMap(TUNNELS)];
const isTunnelMark: NftExpression[] = [
  loadCt('mark'),
  maskRegister(hostWord(MARK.kindMask)),
  compare('==', hostWord(MARK.tunnel)),
];
const isReply: NftExpression[] = [loadCt('direction'), compare('==', REPLY)];

const answers: readonly NftRule[] = [
  {
    comment: 'answers to what came out of a tunnel',
    expressions: [...isReply, ...isTunnelMark, loadCt('mark'), storeMeta('mark'), accept],
  },
  { comment: 'answers go the way their connection came', expressions: [...isReply, accept] },
];

const preroutingChain = (hasInterfaces: boolean): NftChain => ({
  name: 'prerouting',
  base: { type: 'filter', hook: 'prerouting', priority: MANGLE, policy: 'accept' },
  rules: [
    notTcp,
    {
      comment: 'a new connection remembers its tunnel',
      expressions: [...matchCtState('new'), ...loadTunnelOfInput, storeCtMark()],
    },
    { comment: 'out of a tunnel', expressions: [...loadTunnelOfInput, accept] },
    { comment: 'loopback', expressions: [...matchInputInterface('lo'), accept] },
    // Before the rest: until the masquerade is undone, after this chain, an answer is addressed to this host.
    ...answers,
    ...notOurs,
    ...(hasInterfaces
      ? [
          {
            comment: 'arrival on the interface of a service',
            expressions: [loadMeta('iifname'), lookupMap(INTERFACES), storeMeta('mark'), accept],
          },
        ]
      : []),
    ...byFamily,
  ],
});

const outputChain: NftChain = {
  name: 'output',
  base: { type: 'route', hook: 'output', priority: MANGLE, policy: 'accept' },
  rules: [
    notTcp,
    { comment: 'sockets of the agent', expressions: [...matchMark(MARK.own, MARK.kindMask), accept] },
    ...answers,
    ...notOurs,
    ...byFamily,
  ],
};

/** What the first look has sent into a tunnel. */
const taken: NftRule = {
  comment: 'into a tunnel',
  expressions: [...matchMark(MARK.tunnel, MARK.kindMask), accept],
};
/** What the chains behind ours pass by while a table takes another's place. */
export const SECOND_LOOK: SecondLook = new Map([
  ['prerouting_again', { repeats: 'prerouting', decided: [taken] }],
  ['output_again', { repeats: 'output', decided: [taken] }],
  // A flow whose first packet was missed would leave with its own address for ever. The kernel passes by what has been bound.
  ['postrouting_again', { repeats: 'postrouting', decided: [] }],
]);
const secondLook: readonly NftChain[] = [
  {
    name: 'prerouting_again',
    base: { type: 'filter', hook: 'prerouting', priority: MANGLE + 1, policy: 'accept' },
    rules: [],
  },
  {
    name: 'output_again',
    base: { type: 'route', hook: 'output', priority: MANGLE + 1, policy: 'accept' },
    rules: [],
  },
  {
    name: 'postrouting_again',
    base: { type: 'nat', hook: 'postrouting', priority: NAT_SOURCE + 1, policy: 'accept' },
    rules: [],
  },
];

const postroutingChain: NftChain = {
  name: 'postrouting',
  base: { type: 'nat', hook: 'postrouting', priority: NAT_SOURCE, policy: 'accept' },
  rules: [{ comment: 'out of a tunnel and on as this host', expressions: [...isTunnelMark, masquerade()] }],
};
