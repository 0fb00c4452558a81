import type { EventId, Hlc, PeerId } from '../events/brand.ts';

/**
 * When and by whom something was written: the total order of the whole cluster's history. Two events never compare equal,
 * so "the last writer" is the same on every peer whatever the order of arrival.
 */
export interface Stamp {
  readonly hlc: Hlc;
  readonly origin: PeerId;
  readonly id: EventId;
}

const compareText = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0);

/** Order by (hlc, origin, event id); the hybrid clock is fixed-width hexadecimal, so text order is time order. */
export function compareStamps(a: Stamp, b: Stamp): number {
  return compareText(a.hlc, b.hlc) || compareText(a.origin, b.origin) || compareText(a.id, b.id);
}

export const earlier = (a: Stamp | undefined, b: Stamp): Stamp =>
  a === undefined || compareStamps(b, a) < 0 ? b : a;
export const later = (a: Stamp | undefined, b: Stamp): Stamp =>
  a === undefined || compareStamps(b, a) > 0 ? b : a;

/** Wall-clock part of a hybrid clock reading as RFC 3339 text in UTC. */
export { timeText as timeOf } from '../events/hlc.ts';
