/** The counters of the native relay: lines of tab-separated fields (`Shared::Stats` in src/native/relay/relay.cc). */
import { type KcpStats, OPEN_BOUNDS, type TproxyConfig, type TproxyStats } from './contract.ts';
import { createCounters } from './counters.ts';

const NOTHING: Omit<KcpStats, 'state'> = {
  roundTripMs: 0,
  loss: 0,
  lossSamples: 0,
  flows: 0,
  bandwidthBits: 0,
  parity: 0,
  sentDatagrams: 0,
  sentBytes: 0,
  receivedDatagrams: 0,
  receivedBytes: 0,
  missing: 0,
  recovered: 0,
  repeated: 0,
};

/** What a relay without KCP says of the peers that should be reached so. */
export function withoutKcp(config: TproxyConfig): Record<string, KcpStats> {
  const peers = config.entries.filter(({ transport }) => transport === 'kcp').map(({ peerId }) => peerId);
  return Object.fromEntries(peers.map((peer) => [peer, { ...NOTHING, state: 'unsupported' }]));
}

/** In the order of `kcp::Standing`. */
const KCP_STATES: readonly KcpStats['state'][] = ['trying', 'trying', 'up', 'unreachable'];

type Sides = TproxyStats['services'][string];

export function parseStats(text: string): TproxyStats & { readonly flows: number } {
  const services: Record<string, { -readonly [Side in 'entry' | 'exit']: Sides[Side] }> = {};
  const carriers: Record<string, TproxyStats['carriers'][string]> = {};
  const kcp: Record<string, KcpStats> = {};
  let congestionControl = 'unknown';
  let refused: TproxyStats['refused'] = { connections: 0, carriers: 0, flows: 0 };
  let flows = 0;
  for (const line of text.split('\n')) {
    const [kind, ...fields] = line.split('\t');
    const number = (index: number): number => Number(fields[index] ?? 0);
    switch (kind) {
      case 'congestion':
        congestionControl = fields[0] ?? congestionControl;
        break;
      case 'refused':
        refused = { connections: number(0), carriers: number(1), flows: number(2) };
        break;
      case 'flows':
        flows = number(0);
        break;
      case 'service': {
        const [id = '', side] = fields;
        services[id] ??= { entry: createCounters(), exit: createCounters() };
        services[id][side === 'entry' ? 'entry' : 'exit'] = {
          connections: number(2),
          active: number(3),
          bytesIn: number(4),
          bytesOut: number(5),
          refused: number(6),
          failed: number(7),
          detail: {
            reused: number(8),
            timedOut: number(9),
            limiterWaits: number(10),
            limiterWaitMs: number(11) / 1_000,
            openMs: number(12) / 1_000,
            opened: Array.from({ length: OPEN_BOUNDS.length + 1 }, (_, bucket) => number(13 + bucket)),
          },
        };
        break;
      }
      case 'kcp':
        kcp[fields[0] ?? ''] = {
          state: KCP_STATES[number(1)] ?? 'trying',
          roundTripMs: number(2) / 1_000,
          loss: number(3) / 1e6,
          lossSamples: number(4),
          flows: number(5),
          bandwidthBits: number(6),
          parity: number(7),
          sentDatagrams: number(8),
          sentBytes: number(9),
          receivedDatagrams: number(10),
          receivedBytes: number(11),
          missing: number(12),
          recovered: number(13),
          repeated: number(14),
        };
        break;
      case 'peer':
        carriers[fields[0] ?? ''] = {
          idle: number(1),
          leased: number(2),
          dialed: number(3),
          accepted: number(4),
          reused: number(5),
          failed: number(6),
          path: { rttMs: number(7) / 1_000, bytesSent: number(8), bytesRetransmitted: number(9) },
        };
        break;
    }
  }
  return { implementation: 'native', congestionControl, services, carriers, kcp, refused, flows };
}
