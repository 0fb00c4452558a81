/** What `transport_type: auto` decides for the path to one peer. Pure. */

export interface Transport {
  readonly transport: 'tcp' | 'kcp';
}

/** What is known of the path, from the KCP association that is kept for it. */
export interface PathMeasure {
  /** `unsupported`: this host's relay has no KCP. */
  readonly state: 'trying' | 'up' | 'unreachable' | 'unsupported';
  readonly roundTripMs: number;
  /** Share of datagrams that do not arrive, of the worse direction; null while it is not known. */
  readonly loss: number | null;
  /** How many datagrams that figure rests on. */
  readonly lossSamples: number;
}

export interface Choice extends Transport {
  /** One clause, for people: what was measured and what follows. */
  readonly reason: string;
  /** Milliseconds of the clock it was decided with: how long the transport has been this one; undefined before the first figures. */
  readonly since: number | undefined;
}

/**
 * TCP with BBR carries more up to some two percent of loss and takes a fifth of the CPU; beyond, or where a lost packet
 * costs a long round trip, KCP does (ops/docs/performance.md). Between the two pairs of bounds the last choice stays.
 */
export const ENTER_LOSS = 0.02;
export const LEAVE_LOSS = 0.01;
export const ENTER_ROUND_TRIP_MS = 20;
export const LEAVE_ROUND_TRIP_MS = 12;
/** Datagrams before a figure is believed: at two percent, five of them lost. */
export const LEAST_SAMPLES = 256;
/** Milliseconds a choice made by figures stands at least. */
export const DWELL_MS = 30_000;

const percent = (share: number): string => `${(share * 100).toFixed(1)} %`;

export function chooseTransport(path: PathMeasure, last: Choice | undefined, now: number): Choice {
  const decide = (transport: 'tcp' | 'kcp', reason: string): Choice => ({
    transport,
    reason,
    since: last === undefined || last.transport === transport ? last?.since : now,
  });
  if (path.state === 'unsupported') return decide('tcp', 'this host has no KCP');
  if (path.state === 'unreachable') return decide('tcp', 'the peer does not answer over UDP');
  if (path.state === 'trying') return decide('tcp', 'the peer has not answered over UDP yet');
  const { loss } = path;
  if (loss === null || path.lossSamples < LEAST_SAMPLES) {
    return decide(last?.transport ?? 'tcp', 'the path is being measured');
  }
  const measured = `${percent(loss)} loss, ${path.roundTripMs.toFixed(0)} ms`;
  const current = last?.transport ?? 'tcp';
  const wanted = wantedOn(loss, path.roundTripMs, current);
  // The first figures decide at once: what stood before them was no choice.
  if (wanted !== current && last?.since !== undefined && now - last.since < DWELL_MS) {
    return decide(current, `${measured}; the last change was less than ${DWELL_MS / 1_000} s ago`);
  }
  const choice = decide(wanted, measured);
  return { ...choice, since: choice.since ?? now };
}

function wantedOn(loss: number, roundTripMs: number, current: 'tcp' | 'kcp'): 'tcp' | 'kcp' {
  if (loss >= ENTER_LOSS && roundTripMs >= ENTER_ROUND_TRIP_MS) return 'kcp';
  if (loss <= LEAVE_LOSS || roundTripMs <= LEAVE_ROUND_TRIP_MS) return 'tcp';
  return current;
}
