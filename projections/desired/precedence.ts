import type { RouteKey } from '../../events/brand.ts';

/** What decides between routes that match the same packet. Lengths are of the prefix; null is a side that is not looked at. */
export interface Ranked {
  readonly source_length: number | null;
  readonly dest_length: number | null;
  readonly priority: number;
  readonly created_hlc: string;
  readonly key: RouteKey;
}

/** Source and destination before source only before destination only. */
const kind = (route: Pick<Ranked, 'source_length' | 'dest_length'>): number =>
  route.source_length === null ? 2 : route.dest_length === null ? 1 : 0;

/** Order of evaluation of classes: by kind, then the longer source prefix, then the longer destination prefix. */
export const compareClasses = (
  a: Pick<Ranked, 'source_length' | 'dest_length'>,
  b: Pick<Ranked, 'source_length' | 'dest_length'>,
): number =>
  kind(a) - kind(b) ||
  (b.source_length ?? 0) - (a.source_length ?? 0) ||
  (b.dest_length ?? 0) - (a.dest_length ?? 0);

/** Between routes that name the same prefixes: the higher priority, then the older. */
export const compareEqualPrefixes = (
  a: Pick<Ranked, 'priority' | 'created_hlc' | 'key'>,
  b: Pick<Ranked, 'priority' | 'created_hlc' | 'key'>,
): number =>
  b.priority - a.priority || compareText(a.created_hlc, b.created_hlc) || compareText(a.key, b.key);

/**
 * The whole definition of precedence (SPEC section 10): of the routes that match a packet, the least by this order carries it.
 * Two routes of equal lengths that match one packet name the same prefixes, so priority and age only ever decide between those.
 */
export const compareRoutes = (a: Ranked, b: Ranked): number =>
  compareClasses(a, b) || compareEqualPrefixes(a, b);

const compareText = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0);

/** Length of a canonical CIDR's prefix. */
export const prefixLength = (cidr: string): number => Number(cidr.slice(cidr.lastIndexOf('/') + 1));
