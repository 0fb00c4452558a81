/**
 * What kind of path leads to a peer, which decides the congestion control of the links there. Pure.
 *
 * On a short path without loss BBR's pacing costs CPU and wins nothing (ops/docs/performance.md); cubic recovers within a few
 * round trips. Anywhere else BBR is what makes a link quick.
 */
export type PathKind = 'short' | 'long';

/** Since the look before, in this host's sending direction. */
export interface PathSeen {
  /** Least round trip, milliseconds; 0 where nothing is known. */
  readonly leastRttMs: number;
  readonly bytesSent: number;
  readonly bytesRetransmitted: number;
}

export interface PathVerdict {
  readonly kind: PathKind;
  /** One clause, for people. */
  readonly reason: string;
  /** Milliseconds of the clock it was decided with. */
  readonly since: number;
}

/** Between the two pairs of bounds the last verdict stays. */
export const SHORT_RTT_MS = 1;
export const LONG_RTT_MS = 2;
export const LITTLE_LOSS = 0.0005;
export const MUCH_LOSS = 0.003;
/** Bytes sent before a share of loss is believed. */
export const LEAST_SENT = 2 ** 22;
/** Milliseconds that a verdict of loss stands, so that cubic is not tried again and again on a path that loses. */
export const DWELL_MS = 60_000;

/** Undefined while nothing is known of the path. */
export function judgePath(
  seen: PathSeen,
  last: PathVerdict | undefined,
  now: number,
): PathVerdict | undefined {
  if (seen.leastRttMs <= 0) return last;
  const as = (kind: PathKind, reason: string): PathVerdict =>
    last?.kind === kind ? last : { kind, reason, since: now };
  const rtt = `least round trip ${seen.leastRttMs.toFixed(2)} ms`;
  if (seen.leastRttMs >= LONG_RTT_MS) return as('long', rtt);
  const loss = seen.bytesSent >= LEAST_SENT ? seen.bytesRetransmitted / seen.bytesSent : undefined;
  if (loss !== undefined && loss >= MUCH_LOSS) return as('long', `${(loss * 100).toFixed(2)} % sent again`);
  if (last === undefined) return as(seen.leastRttMs < SHORT_RTT_MS ? 'short' : 'long', rtt);
  if (last.kind === 'short' || seen.leastRttMs >= SHORT_RTT_MS) return last;
  if (now - last.since < DWELL_MS || (loss !== undefined && loss > LITTLE_LOSS)) return last;
  return as('short', rtt);
}
