import type { DesiredFirewall } from '../../../projections/desired/contract.ts';
import { MARK } from '../../../projections/desired/contract.ts';
import type { NftChain, NftExpression, NftRule, NftSet, NftTable } from '../../kernel/contract.ts';
import { canonicalTable } from '../../kernel/nft/canonical.ts';
import {
  bitwise,
  compare,
  goTo,
  hostWord,
  IPPROTO_TCP,
  interfaceNameBytes,
  loadCt,
  loadMeta,
  loadPayload,
  loadSocket,
  lookupMap,
  lookupSet,
  maskRegister,
  matchCtState,
  matchInputInterfaceIndex,
  matchL4Protocol,
  matchLocalDestination,
  matchLocalSource,
  matchMark,
  portBytes,
  rejectWithReset,
  setMark,
  storeCtMark,
  storeMeta,
  tproxyTo,
  verdict,
} from '../../kernel/nft/expressions.ts';
import { byFamily, type ClassHead, selectChains } from './select.ts';
import type { SecondLook } from './swap.ts';

/**
 * Compiles what is desired into `table inet arctic`. Pure.
 *
 * A packet's way (marks are `projections/desired` MARK; the kind is in bits 20 to 23, the service below):
 *
 *   prerouting  a packet of an open connection of our sockets -> divert mark; a SYN that an arrival interface or a route
 *               claims -> service mark -> `apply` gives it to the TCP engine. The `ip rule` on both kinds delivers to the local stack.
 *   input       service mark -> own mark: the engine's accepted socket inherits it (tcp_fwmark_accept), so that its replies
 *               are neither captured nor looked up in the local-delivery table, and still name the service.
 *   output      a SYN of the host's own that a route claims -> service mark -> rerouted to `lo`, where it meets prerouting.
 *               Its conntrack entry keeps the mark for the packets that follow. A transparent exit's own connections to servers
 *               on its host keep the divert mark there, so that the answers find the engine's socket.
 *
 * Never captured: what is addressed to this host, whatever interface it came in on, and what this host answers (SSH and the
 * API stay reachable under a route for 0.0.0.0/0); what carries the own mark; and connections that were there before their
 * route. Only a SYN opens. In output nothing but conntrack can tell a later packet of a captured connection from a reply
 * of a server on this host; a host that does not track its output (notrack) has its own connections left alone.
 */
export const TABLE = { family: 'inet', name: 'arctic' } as const;

/**
 * Refuses the new connections of services that say `reject` when nothing took them: no engine listens, or the agent and
 * with it its table are gone. Hence it stands behind that table, and stays when the agent goes. Its maps are the same, so
 * that a more specific route of a service that says `direct` keeps its precedence.
 */
export const GUARD_TABLE = { family: 'inet', name: 'arctic_guard' } as const;

/** NF_IP_PRI_MANGLE: after conntrack and raw, before destination NAT and the routing decision. */
const PRIORITY = -150;

export interface RulesetOptions {
  /** Port of the engine's transparent listener. */
  readonly listenPort: number;
  /** Claim the owner flag, so that a foreign `flush ruleset` passes the table by and a dead agent leaves none. */
  readonly owned: boolean;
}

/** A table without the maps of routes, which all our tables share. */
export type TableFrame = Omit<NftTable, 'sets'> & {
  /** Its sets besides those maps. */
  readonly sets: readonly NftSet[];
};

/** Everything but the maps of routes in the form it is read in. */
export function canonicalFrame(frame: TableFrame): TableFrame {
  const { sets, chains, ...head } = canonicalTable(frame);
  return { ...head, sets, chains };
}

/** The tables of a desired state; none when this host has nothing to classify. */
export function compileRuleset(
  desired: Omit<DesiredFirewall, 'classes'> & { readonly classes: readonly ClassHead[] },
  options: RulesetOptions,
): readonly TableFrame[] {
  if (desired.services.length === 0 && !desired.transparent_exit) return [];
  const { classes } = desired;
  const interfaces = desired.services.filter((service) => service.interface_name !== null);
  const refused = desired.services.filter((service) => service.on_failure === 'reject');
  const arrivals: readonly NftSet[] =
    interfaces.length === 0
      ? []
      : [
          {
            name: INTERFACES,
            keyTypes: ['ifname'],
            dataType: 'mark',
            elements: interfaces.map((service) => ({
              key: interfaceNameBytes(service.interface_name ?? ''),
              data: hostWord(service.mark),
            })),
          },
        ];
  const main: TableFrame = {
    ...TABLE,
    ...(options.owned ? { owned: true } : {}),
    sets: arrivals,
    chains: [
      ...preroutingChains(options.listenPort, interfaces.length > 0),
      { name: 'input', base: base('filter', 'input'), rules: [INPUT_RULE] },
      outputChain(desired.transparent_exit),
      ...selectChains(classes, notToSelf),
      applyChain(options.listenPort),
      ...secondLook,
    ],
  };
  if (refused.length === 0) return [main];
  const guard: TableFrame = {
    ...GUARD_TABLE,
    ...(options.owned ? { owned: true, persist: true } : {}),
    sets: [
      ...arrivals,
      {
        name: REFUSED,
        keyTypes: ['mark'],
        elements: refused.map((service) => ({ key: hostWord(service.mark) })),
      },
    ],
    chains: guardChains(classes, interfaces.length > 0),
  };
  return [main, guard];
}

export const INTERFACES = 'interfaces';

const base = (type: 'filter' | 'route', hook: 'prerouting' | 'input' | 'output', priority = PRIORITY) =>
  ({ type, hook, priority, policy: 'accept' }) as const;

/** Offset of the flags byte in a TCP header, and FIN, SYN, RST and ACK in it (RFC 9293 section 3.1). */
const TCP_FLAGS = 13;
const TCP_DESTINATION_PORT = 2;
const FIN_SYN_RST_ACK = '17';
const SYN = '02';
/** LOOPBACK_IFINDEX (net/net_namespace.h): in every namespace. Four bytes to compare, where its name has sixteen. */
const LOOPBACK_INDEX = 1;
/** The register behind the one a mark is held in. */
const AFTER_MARK = 4;

const accept = verdict('accept');
/** The first packet of a connection, or not. */
const matchSyn = (operator: '==' | '!='): NftExpression[] => [
  loadPayload('transport', TCP_FLAGS, 1),
  maskRegister(FIN_SYN_RST_ACK),
  compare(operator, SYN),
];
/** Ends the rule's work for whatever is not the first packet of a connection. */
const onlySyn: NftRule = { comment: 'only new connections', expressions: [...matchSyn('!='), accept] };
const onlyTcp: NftRule = {
  comment: 'only TCP',
  expressions: [loadMeta('l4proto'), compare('!=', '06'), accept],
};
/** Not addressed to this host. Costs as much as several maps, so only what one of them has is asked for it. */
const notToSelf = matchLocalDestination('!=', AFTER_MARK);
/** In output only conntrack tells an own connection from a reply. */
const newByFamily: readonly NftRule[] = byFamily.map(({ comment, expressions }) => ({
  comment,
  expressions: [...matchCtState('new'), ...expressions],
}));
/** A mark of one kind, whatever the service. */
const matchKind = (kind: number): NftExpression[] => matchMark(kind, MARK.kindMask);
const fromLoopback = matchInputInterfaceIndex(LOOPBACK_INDEX);
/** `next` takes what arrives on the interface of a service. */
const arrivals = (next: string): NftRule => ({
  comment: 'arrival on the interface of a service',
  expressions: [loadMeta('iifname'), lookupMap(INTERFACES), ...notToSelf, storeMeta('mark'), goTo(next)],
});

function preroutingChains(listenPort: number, hasInterfaces: boolean): readonly NftChain[] {
  const divert = [...setMark(MARK.divert), accept];
  const claimedInOutput: NftRule = {
    comment: 'own connections claimed in output',
    expressions: [...matchKind(MARK.service), goTo('apply')],
  };
  return [
    {
      name: 'prerouting',
      base: base('filter', 'prerouting'),
      rules: [
        onlyTcp,
        { comment: 'packets of open connections', expressions: [...matchSyn('!='), goTo('open')] },
        { comment: 'loopback', expressions: [...fromLoopback, goTo('loopback')] },
        ...(hasInterfaces ? [arrivals('apply')] : []),
        ...byFamily,
        { comment: 'claimed by a route', expressions: [...matchKind(MARK.service), goTo('apply')] },
      ],
    },
    { name: 'loopback', rules: [claimedInOutput] },
    {
      name: 'open',
      rules: [
        {
          comment: 'transparent sockets',
          expressions: [loadSocket('transparent'), compare('==', '01'), goTo('ours')],
        },
        { comment: 'loopback', expressions: [...fromLoopback, goTo('loopback')] },
      ],
    },
    {
      name: 'ours',
      rules: [
        {
          comment: 'established flows of our sockets',
          expressions: [loadSocket('wildcard'), compare('==', '00'), ...divert],
        },
        { comment: 'loopback', expressions: [...fromLoopback, goTo('loopback')] },
        { comment: 'addressed to this host', expressions: [...matchLocalDestination(), accept] },
        {
          // A half-open or closing flow has no full socket to ask whether it is bound to every address. The listener
          // itself, which is, must not claim strangers' flows to its port number.
          comment: 'opening and closing flows of our sockets',
          expressions: [
            loadPayload('transport', TCP_DESTINATION_PORT, 2),
            compare('!=', portBytes(listenPort)),
            ...divert,
          ],
        },
      ],
    },
  ];
}

/** Bits that turn the service kind into the own kind. */
const SERVICE_TO_OWN = (MARK.service ^ MARK.own) >>> 0;
const INPUT_RULE: NftRule = {
  comment: 'the accepted socket is ours and keeps the service',
  expressions: [
    ...matchL4Protocol(IPPROTO_TCP),
    ...matchKind(MARK.service),
    loadMeta('mark'),
    bitwise(hostWord(0xffff_ffff), hostWord(SERVICE_TO_OWN)),
    storeMeta('mark'),
  ],
};

const ctMarkOfKind = (kind: number): NftExpression[] => [
  loadCt('mark'),
  maskRegister(hostWord(MARK.kindMask)),
  compare('==', hostWord(kind)),
];

/**
 * A connection that speaks as the client to a server on this very host: both ends are here, so the answers must not leave for
 * the client. They do not come in anywhere either: nothing but conntrack knows them in output.
 */
const toThisHost: NftRule = {
  comment: 'as a client to a server on this host',
  expressions: [
    ...matchKind(MARK.own),
    ...matchSyn('=='),
    ...matchLocalSource('!='),
    ...matchLocalDestination(),
    ...setMark(MARK.divert),
    storeCtMark(),
    accept,
  ],
};
const answersFromThisHost: NftRule = {
  comment: 'answers of servers on this host to such clients',
  expressions: [...ctMarkOfKind(MARK.divert), ...setMark(MARK.divert), accept],
};

const outputChain = (transparentExit: boolean): NftChain => ({
  name: 'output',
  base: base('route', 'output'),
  rules: [
    onlyTcp,
    ...(transparentExit ? [toThisHost] : []),
    { comment: 'sockets of the agent', expressions: [...matchKind(MARK.own), accept] },
    ...(transparentExit ? [answersFromThisHost] : []),
    {
      comment: 'captured connections go on',
      expressions: [...ctMarkOfKind(MARK.service), loadCt('mark'), storeMeta('mark'), accept],
    },
    onlySyn,
    ...newByFamily,
    {
      comment: 'claimed by a route',
      expressions: [...matchKind(MARK.service), loadMeta('mark'), storeCtMark()],
    },
  ],
});

function applyChain(listenPort: number): NftChain {
  return {
    name: 'apply',
    rules: [
      {
        comment: 'to the TCP engine',
        expressions: [...matchL4Protocol(IPPROTO_TCP), ...tproxyTo(listenPort), accept],
      },
      // Without this the mark would route the packet to a stack that has no socket for it.
      { comment: 'no listener: let it go directly', expressions: [...setMark(0), accept] },
    ],
  };
}

const taken: NftRule = { comment: 'taken by the engine', expressions: [...matchKind(MARK.service), accept] };
/** What the chains behind ours pass by while a table takes another's place (swap.ts). */
export const SECOND_LOOK: SecondLook = new Map([
  [
    'prerouting_again',
    {
      repeats: 'prerouting',
      decided: [
        taken,
        { comment: 'a flow of our sockets', expressions: [...matchKind(MARK.divert), accept] },
      ],
    },
  ],
  ['input_again', { repeats: 'input', decided: [] }],
  ['output_again', { repeats: 'output', decided: [taken] }],
]);
const secondLook: readonly NftChain[] = [
  { name: 'prerouting_again', base: base('filter', 'prerouting', PRIORITY + 1), rules: [] },
  { name: 'input_again', base: base('filter', 'input', PRIORITY + 1), rules: [] },
  { name: 'output_again', base: base('route', 'output', PRIORITY + 1), rules: [] },
];

export const REFUSED = 'refused';
/** Behind the second look: what that takes is not refused. */
const GUARD_PRIORITY = PRIORITY + 2;

function guardChains(classes: readonly ClassHead[], hasInterfaces: boolean): readonly NftChain[] {
  const decide: readonly NftRule[] = [
    { comment: 'refuse', expressions: [loadMeta('mark'), lookupSet(REFUSED), rejectWithReset()] },
    { comment: 'direct', expressions: [...matchKind(MARK.service), ...setMark(0), accept] },
  ];
  return [
    {
      name: 'prerouting',
      base: base('filter', 'prerouting', GUARD_PRIORITY),
      rules: [
        onlyTcp,
        onlySyn,
        // What is not comes by loopback too: own connections that were claimed in output and found no listener.
        taken,
        ...(hasInterfaces ? [arrivals('decide')] : []),
        ...byFamily,
        ...decide,
      ],
    },
    {
      name: 'output',
      base: base('filter', 'output', GUARD_PRIORITY),
      rules: [
        onlyTcp,
        onlySyn,
        { comment: 'sockets of the agent', expressions: [...matchKind(MARK.own), accept] },
        taken,
        ...newByFamily,
        ...decide,
      ],
    },
    ...selectChains(classes, notToSelf),
    { name: 'decide', rules: decide },
  ];
}
