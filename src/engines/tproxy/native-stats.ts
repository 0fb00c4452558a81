/** The counters of the native relay: lines of tab-separated fields (`Shared::Stats` in src/native/relay/relay.cc). */
import { type KcpStats, readKcpStats } from '../kcp/stats.ts';
import { OPEN_BOUNDS, type TproxyStats } from './contract.ts';
import { createCounters } from './counters.ts';

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
        kcp[fields[0] ?? ''] = readKcpStats(fields.slice(1));
        break;
      case 'peer':
        carriers[fields[0] ?? ''] = {
          idle: number(1),
          leased: number(2),
          dialed: number(3),
          accepted: number(4),
          reused: number(5),
          failed: number(6),
          path: {
            rttMs: number(7) / 1_000,
            leastRttMs: number(10) / 1_000,
            bytesSent: number(8),
            bytesRetransmitted: number(9),
          },
        };
        break;
    }
  }
  return { implementation: 'native', congestionControl, services, carriers, kcp, refused, flows };
}
