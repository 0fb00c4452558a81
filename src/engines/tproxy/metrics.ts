import { Gauge, type Registry } from 'prom-client';
import type { FlowCounters, TproxyEngine } from './contract.ts';

const SIDES = ['entry', 'exit'] as const;

/** What of a service's counters is shown, and whether it only ever grows. */
const FLOWS: readonly (readonly [suffix: string, help: string, read: (flow: FlowCounters) => number])[] = [
  ['connections_total', 'Connections taken.', (flow) => flow.connections],
  ['active_connections', 'Connections under way.', (flow) => flow.active],
  ['received_bytes_total', 'Bytes read from clients (entry) or destinations (exit).', (flow) => flow.bytesIn],
  ['sent_bytes_total', 'Bytes written to clients (entry) or destinations (exit).', (flow) => flow.bytesOut],
  ['refused_total', 'Connections refused by rule.', (flow) => flow.refused],
  ['failed_total', 'Connections that failed on the way.', (flow) => flow.failed],
];

/** Adds the TCP engine's counters to a registry; they are read when somebody asks, not on the data path. */
export function registerTproxyMetrics(
  registry: Registry,
  engine: Pick<TproxyEngine, 'stats'>,
  serviceName: (id: string) => string,
): void {
  const registers = [registry];
  for (const [suffix, help, read] of FLOWS) {
    new Gauge({
      name: `arctic_tproxy_${suffix}`,
      help,
      labelNames: ['service', 'name', 'side'],
      registers,
      collect() {
        this.reset();
        for (const [service, sides] of Object.entries(engine.stats().services)) {
          for (const side of SIDES)
            this.set({ service, name: serviceName(service), side }, read(sides[side]));
        }
      },
    });
  }
  new Gauge({
    name: 'arctic_tproxy_links',
    help: 'Links to other agents by state.',
    labelNames: ['peer', 'state'],
    registers,
    collect() {
      this.reset();
      for (const [peer, links] of Object.entries(engine.stats().carriers)) {
        this.set({ peer, state: 'idle' }, links.idle);
        this.set({ peer, state: 'leased' }, links.leased);
      }
    },
  });
}
