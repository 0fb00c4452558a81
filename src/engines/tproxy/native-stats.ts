/** The counters of the native relay: lines of tab-separated fields (`Shared::Stats` in src/native/relay/relay.cc). */
import type { FlowCounters, TproxyStats } from './contract.ts';
import { createCounters } from './counters.ts';

export function parseStats(text: string): TproxyStats & { readonly flows: number } {
  const services: Record<string, { entry: FlowCounters; exit: FlowCounters }> = {};
  const carriers: Record<string, TproxyStats['carriers'][string]> = {};
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
        };
        break;
      }
      case 'peer':
        carriers[fields[0] ?? ''] = {
          idle: number(1),
          leased: number(2),
          dialed: number(3),
          accepted: number(4),
          reused: number(5),
          failed: number(6),
        };
        break;
    }
  }
  return { implementation: 'native', congestionControl, services, carriers, refused, flows };
}
