/** One peer over KCP, as the side that dials it sees it. */
export interface KcpStats {
  /**
   * `unreachable`: nothing answers on UDP; flows go over TCP until something does. `unsupported`: this relay has no KCP.
   */
  readonly state: 'trying' | 'up' | 'unreachable' | 'unsupported';
  readonly roundTripMs: number;
  /** Share of datagrams that did not arrive, smoothed, of the worse direction that is known; null while neither is. */
  readonly loss: number | null;
  /** How many datagrams that figure rests on; 0 before the peer has reported on enough of them. */
  readonly lossSamples: number;
  readonly flows: number;
  /** Bits a second the path has been seen to carry. */
  readonly bandwidthBits: number;
  /** Parity datagrams sent with each group of 20 now. */
  readonly parity: number;
  readonly sentDatagrams: number;
  readonly sentBytes: number;
  readonly receivedDatagrams: number;
  readonly receivedBytes: number;
  /** Sent and never arrived. */
  readonly missing: number;
  /** Did not arrive here but could be worked out from parity. */
  readonly recovered: number;
  /** Segments that were sent again. */
  readonly repeated: number;
  readonly repeatedBytes: number;
}

/** In the order of `kcp::Standing` (src/native/kcp/endpoint.h). */
const STATES: readonly KcpStats['state'][] = ['trying', 'trying', 'up', 'unreachable'];

/** Fields of a `kcp` line of `Shared::Stats` (src/native/relay/relay.cc) behind the peer. */
export function readKcpStats(fields: readonly string[]): KcpStats {
  const number = (index: number): number => Number(fields[index] ?? 0);
  return {
    state: STATES[number(0)] ?? 'trying',
    roundTripMs: number(1) / 1_000,
    // What this host misses itself is known before the peer has reported on enough.
    loss: number(2) === 0 && number(3) === 0 ? null : number(2) / 1e6,
    lossSamples: number(3),
    flows: number(4),
    bandwidthBits: number(5),
    parity: number(6),
    sentDatagrams: number(7),
    sentBytes: number(8),
    receivedDatagrams: number(9),
    receivedBytes: number(10),
    missing: number(11),
    recovered: number(12),
    repeated: number(13),
    repeatedBytes: number(14),
  };
}

/** What a relay without KCP says of each peer that should be reached so. */
export function withoutKcp(
  services: readonly { readonly peerId: string; readonly transport: string }[],
): Record<string, KcpStats> {
  const peers = services.filter(({ transport }) => transport !== 'tcp').map(({ peerId }) => peerId);
  return Object.fromEntries(peers.map((peer) => [peer, { ...readKcpStats([]), state: 'unsupported' }]));
}
