import type { ClassRoute, RouteClass } from '../../../projections/desired/contract.ts';
import type { NftChain, NftExpression, NftRule } from '../../kernel/contract.ts';
import {
  jumpTo,
  loadPayload,
  lookupMap,
  maskBytes,
  maskRegister,
  matchFamily,
  storeMeta,
  verdict,
} from '../../kernel/nft/expressions.ts';
import { hexOfAddress } from '../../kernel/rt/cidr.ts';

/**
 * How a packet's route is found: one map a class of routes (a pair of prefix lengths at one priority), one rule a map, in
 * order of evaluation. Every table of ours that classifies has these two chains.
 */
export type ClassHead = Omit<RouteClass, 'routes'>;

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

function selectName(family: RouteClass['family']): string {
  return family === 'ipv4' ? 'sel4' : 'sel6';
}

/** Hands a packet to the chain of its family, which marks it and returns. */
export const byFamily: readonly NftRule[] = (['ipv4', 'ipv6'] as const).map((family) => ({
  comment: `routes of ${family}`,
  expressions: [...matchFamily(family), jumpTo(selectName(family))],
}));

/** Source and destination in the network header: offset and length (RFC 791, RFC 8200). */
const ADDRESSES = {
  ipv4: { length: 4, source: 12, dest: 16 },
  ipv6: { length: 16, source: 8, dest: 24 },
} as const;

/**
 * One rule a class; the first that finds the packet's addresses in its map marks it and returns. `condition` is asked only
 * of a packet that a map has; it must leave the first register alone, which holds the mark.
 */
export const selectChains = (
  classes: readonly ClassHead[],
  condition: readonly NftExpression[] = [],
): readonly NftChain[] =>
  (['ipv4', 'ipv6'] as const).map((family) => ({
    name: selectName(family),
    rules: classes
      .filter((one) => one.family === family)
      .map((one) => ({
        comment: describeClass(one),
        expressions: [
          ...loadKey(one),
          lookupMap(className(one)),
          ...condition,
          storeMeta('mark'),
          verdict('return'),
        ],
      })),
  }));

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
