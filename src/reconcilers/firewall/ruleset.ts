import type { ClassRoute, DesiredFirewall, RouteClass } from '../../../projections/desired/contract.ts';
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
  jumpTo,
  loadCt,
  loadMeta,
  loadPayload,
  loadSocket,
  lookupMap,
  lookupSet,
  maskBytes,
  maskRegister,
  matchCtState,
  matchFamily,
  matchInputInterface,
  matchL4Protocol,
  matchLocalDestination,
  matchMark,
  matchTransparentSocket,
  portBytes,
  rejectWithReset,
  setMark,
  storeCtMark,
  storeMeta,
  tproxyTo,
  verdict,
} from '../../kernel/nft/expressions.ts';
import { hexOfAddress } from '../../kernel/rt/cidr.ts';

/**
 * Compiles what is desired into `table inet arctic`. Pure.
 *
 * A packet's way (marks are `projections/desired` MARK; the kind is in bits 20 to 23, the service below):
 *
 *   prerouting  established flows of our sockets -> divert mark; a SYN that a route or an arrival interface claims ->
 *               service mark -> `apply` gives it to the TCP engine. The `ip rule` on both kinds delivers to the local stack.
 *   input       service mark -> own mark: the engine's accepted socket inherits it (tcp_fwmark_accept), so that its replies
 *               are neither captured nor looked up in the local-delivery table, and still name the service.
 *   output      a SYN of the host's own that a route claims -> service mark -> rerouted to `lo`, where it meets prerouting.
 *               Its conntrack entry keeps the mark for the packets that follow.
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
      preroutingChain(options.listenPort, interfaces.length > 0),
      { name: 'input', base: base('filter', 'input'), rules: [INPUT_RULE] },
      outputChain,
      selectChain('ipv4', classes),
      selectChain('ipv6', classes),
      applyChain(options.listenPort),
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

type ClassHead = Omit<RouteClass, 'routes'>;

export const INTERFACES = 'interfaces';

/** `m4_s16_d24`: IPv4, source /16 and destination /24; a side that is not looked at is left out. */
export function className({ family, source_length, dest_length }: ClassHead): string {
  const source = source_length === null ? '' : `_s${source_length}`;
  const dest = dest_length === null ? '' : `_d${dest_length}`;
  return `m${family === 'ipv4' ? 4 : 6}${source}${dest}`;
}

/** Map key of a route in its class. */
export function elementKey(route: Pick<ClassRoute, 'source_cidr' | 'dest_cidr'>): string {
  return `${addressHex(route.source_cidr)}${addressHex(route.dest_cidr)}`;
}

function addressHex(cidr: string | null): string {
  if (cidr === null) return '';
  const address = cidr.slice(0, cidr.lastIndexOf('/'));
  return address.includes(':') ? hexOfAddress(address) : ipv4Hex(address);
}

/** Dotted quad to hex, without a parser's allocations: there may be 100,000. */
function ipv4Hex(address: string): string {
  let value = 0;
  let octet = 0;
  for (let at = 0; at < address.length; at += 1) {
    const code = address.charCodeAt(at);
    if (code === 0x2e) {
      value = value * 256 + octet;
      octet = 0;
    } else octet = octet * 10 + (code - 0x30);
  }
  return (value * 256 + octet).toString(16).padStart(8, '0');
}

const base = (type: 'filter' | 'route', hook: 'prerouting' | 'input' | 'output', priority = PRIORITY) =>
  ({ type, hook, priority, policy: 'accept' }) as const;

/** Offset of the flags byte in a TCP header, and FIN, SYN, RST and ACK in it (RFC 9293 section 3.1). */
const TCP_FLAGS = 13;
const FIN_SYN_RST_ACK = '17';
const SYN = '02';

/** `tcp flags & (fin|syn|rst|ack) == syn`, or not. */
function matchFlags(operator: '==' | '!='): NftExpression[] {
  return [loadPayload('transport', TCP_FLAGS, 1), maskRegister(FIN_SYN_RST_ACK), compare(operator, SYN)];
}

const accept = verdict('accept');
/** Ends the rule's work for whatever is not the first packet of a connection. */
const onlySyn: NftRule = {
  comment: 'only new connections',
  expressions: [...matchFlags('!='), accept],
};
const onlyTcp: NftRule = {
  comment: 'only TCP',
  expressions: [loadMeta('l4proto'), compare('!=', '06'), accept],
};
const toSelf: NftRule = {
  comment: 'addressed to this host',
  expressions: [...matchLocalDestination(), accept],
};
const byFamily: readonly NftRule[] = (['ipv4', 'ipv6'] as const).map((family) => ({
  comment: `routes of ${family}`,
  expressions: [...matchFamily(family), jumpTo(selectName(family))],
}));
/** In output only conntrack tells an own connection from a reply. */
const newByFamily: readonly NftRule[] = byFamily.map(({ comment, expressions }) => ({
  comment,
  expressions: [...matchCtState('new'), ...expressions],
}));
/** A mark of one kind, whatever the service. */
const matchKind = (kind: number): NftExpression[] => matchMark(kind, MARK.kindMask);

const TCP_DESTINATION_PORT = 2;

function preroutingChain(listenPort: number, hasInterfaces: boolean): NftChain {
  const divert = [...setMark(MARK.divert), accept];
  return {
    name: 'prerouting',
    base: base('filter', 'prerouting'),
    rules: [
      onlyTcp,
      { comment: 'established flows of our sockets', expressions: [...matchTransparentSocket(), ...divert] },
      {
        comment: 'own connections claimed in output',
        expressions: [...matchInputInterface('lo'), ...matchKind(MARK.service), goTo('apply')],
      },
      { comment: 'loopback', expressions: [...matchInputInterface('lo'), accept] },
      toSelf,
      {
        // A half-open or closing flow has no full socket to ask whether it is bound to every address. The listener itself,
        // which is, must not claim strangers' flows to its port number.
        comment: 'opening and closing flows of our sockets',
        expressions: [
          ...matchFlags('!='),
          loadPayload('transport', TCP_DESTINATION_PORT, 2),
          compare('!=', portBytes(listenPort)),
          loadSocket('transparent'),
          compare('==', '01'),
          ...divert,
        ],
      },
      onlySyn,
      ...(hasInterfaces
        ? [
            {
              comment: 'arrival on the interface of a service',
              expressions: [loadMeta('iifname'), lookupMap(INTERFACES), storeMeta('mark'), goTo('apply')],
            },
          ]
        : []),
      ...byFamily,
      { comment: 'claimed by a route', expressions: [...matchKind(MARK.service), goTo('apply')] },
    ],
  };
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

const outputChain: NftChain = {
  name: 'output',
  base: base('route', 'output'),
  rules: [
    onlyTcp,
    { comment: 'sockets of the agent', expressions: [...matchKind(MARK.own), accept] },
    toSelf,
    {
      comment: 'captured connections go on',
      expressions: [
        loadCt('mark'),
        maskRegister(hostWord(MARK.kindMask)),
        compare('==', hostWord(MARK.service)),
        loadCt('mark'),
        storeMeta('mark'),
        accept,
      ],
    },
    onlySyn,
    ...newByFamily,
    {
      comment: 'claimed by a route',
      expressions: [...matchKind(MARK.service), loadMeta('mark'), storeCtMark()],
    },
  ],
};

function selectName(family: RouteClass['family']): string {
  return family === 'ipv4' ? 'sel4' : 'sel6';
}

/** Source and destination in the network header: offset and length (RFC 791, RFC 8200). */
const ADDRESSES = {
  ipv4: { length: 4, source: 12, dest: 16 },
  ipv6: { length: 16, source: 8, dest: 24 },
} as const;

/** One rule a class, in order of evaluation; the first that finds the packet's addresses in its map marks it and returns. */
function selectChain(family: RouteClass['family'], classes: readonly ClassHead[]): NftChain {
  return {
    name: selectName(family),
    rules: classes
      .filter((one) => one.family === family)
      .map((one) => ({
        comment: describeClass(one),
        expressions: [...loadKey(one), lookupMap(className(one)), storeMeta('mark'), verdict('return')],
      })),
  };
}

/** Two masked loads rather than one: a mask of 4 bytes has a fast path in the kernel, and 16 bytes are the most one can have. */
function loadKey({ family, source_length, dest_length }: ClassHead): NftExpression[] {
  const { length, source, dest } = ADDRESSES[family];
  const load = (offset: number, prefix: number, slot: number): NftExpression[] => [
    loadPayload('network', offset, length, slot),
    ...(prefix === length * 8 ? [] : [maskRegister(maskBytes(prefix, length), slot)]),
  ];
  const first = source_length === null ? [] : load(source, source_length, 0);
  const second = dest_length === null ? [] : load(dest, dest_length, source_length === null ? 0 : length / 4);
  return [...first, ...second];
}

export function describeClass({ family, source_length, dest_length }: ClassHead): string {
  const sides = [
    source_length === null ? undefined : `source /${source_length}`,
    dest_length === null ? undefined : `destination /${dest_length}`,
  ];
  return `${family} ${sides.filter((side) => side !== undefined).join(', ')}`;
}

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

export const REFUSED = 'refused';

function guardChains(classes: readonly ClassHead[], hasInterfaces: boolean): readonly NftChain[] {
  const taken: NftRule = {
    comment: 'taken by the engine',
    expressions: [...matchKind(MARK.service), accept],
  };
  const decide: readonly NftRule[] = [
    { comment: 'refuse', expressions: [loadMeta('mark'), lookupSet(REFUSED), rejectWithReset()] },
    { comment: 'direct', expressions: [...matchKind(MARK.service), ...setMark(0), accept] },
  ];
  return [
    {
      name: 'prerouting',
      base: base('filter', 'prerouting', PRIORITY + 1),
      rules: [
        onlyTcp,
        onlySyn,
        taken,
        { comment: 'loopback', expressions: [...matchInputInterface('lo'), accept] },
        toSelf,
        ...(hasInterfaces
          ? [
              {
                comment: 'arrival on the interface of a service',
                expressions: [loadMeta('iifname'), lookupMap(INTERFACES), storeMeta('mark'), goTo('decide')],
              },
            ]
          : []),
        ...byFamily,
        ...decide,
      ],
    },
    {
      name: 'output',
      base: base('filter', 'output', PRIORITY + 1),
      rules: [
        onlyTcp,
        onlySyn,
        { comment: 'sockets of the agent', expressions: [...matchKind(MARK.own), accept] },
        taken,
        toSelf,
        ...newByFamily,
        ...decide,
      ],
    },
    selectChain('ipv4', classes),
    selectChain('ipv6', classes),
    { name: 'decide', rules: decide },
  ];
}
