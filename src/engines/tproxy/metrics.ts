import { Gauge, type Registry } from 'prom-client';
import { registerKcpMetrics } from '../kcp/metrics.ts';
import { type FlowCounters, type FlowDetail, OPEN_BOUNDS, type TproxyEngine } from './contract.ts';

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

/** The native relay's own. */
const DETAILS: readonly (readonly [suffix: string, help: string, read: (detail: FlowDetail) => number])[] = [
  ['reused_links_total', 'Connections on a link that had carried one before.', (detail) => detail.reused],
  ['timed_out_total', 'Connections ended because nothing moved.', (detail) => detail.timedOut],
  ['limiter_waits_total', 'Times the bandwidth limit held a connection.', (detail) => detail.limiterWaits],
  ['limiter_wait_seconds_total', 'How long it held them.', (detail) => detail.limiterWaitMs / 1_000],
  [
    'open_seconds_count',
    'Connections whose destination was reached.',
    (detail) => detail.opened.reduce((sum, one) => sum + one, 0),
  ],
  ['open_seconds_sum', 'How long reaching them took.', (detail) => detail.openMs / 1_000],
];

/** Of links to a peer, this side's sending. */
const PATHS: readonly (readonly [suffix: string, help: string, read: (path: Path) => number])[] = [
  ['rtt_seconds', 'Round trip of the link that sent last.', (path) => path.rttMs / 1_000],
  ['sent_bytes_total', 'Bytes sent on links, repeated ones counted again.', (path) => path.bytesSent],
  ['retransmitted_bytes_total', 'Bytes sent again on links.', (path) => path.bytesRetransmitted],
];

type Path = NonNullable<ReturnType<TproxyEngine['stats']>['carriers'][string]['path']>;

/** Adds the TCP engine's counters to a registry; they are read when somebody asks, not on the data path. */
export function registerTproxyMetrics(
  registry: Registry,
  engine: Pick<TproxyEngine, 'stats'>,
  serviceName: (id: string) => string,
): void {
  registerKcpMetrics(registry, engine);
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
  for (const [suffix, help, read] of DETAILS) {
    new Gauge({
      name: `arctic_tproxy_${suffix}`,
      help,
      labelNames: ['service', 'name', 'side'],
      registers,
      collect() {
        this.reset();
        for (const [service, sides] of Object.entries(engine.stats().services)) {
          for (const side of SIDES) {
            const { detail } = sides[side];
            if (detail !== undefined) this.set({ service, name: serviceName(service), side }, read(detail));
          }
        }
      },
    });
  }
  new Gauge({
    name: 'arctic_tproxy_open_seconds_bucket',
    help: 'Time until the destination was connected, cumulative, as of a histogram.',
    labelNames: ['service', 'name', 'side', 'le'],
    registers,
    collect() {
      this.reset();
      for (const [service, sides] of Object.entries(engine.stats().services)) {
        for (const side of SIDES) {
          let count = 0;
          sides[side].detail?.opened.forEach((one, bucket) => {
            count += one;
            const le = OPEN_BOUNDS[bucket]?.toString() ?? '+Inf';
            this.set({ service, name: serviceName(service), side, le }, count);
          });
        }
      }
    },
  });
  for (const [suffix, help, read] of PATHS) {
    new Gauge({
      name: `arctic_tproxy_link_${suffix}`,
      help,
      labelNames: ['peer'],
      registers,
      collect() {
        this.reset();
        for (const [peer, { path }] of Object.entries(engine.stats().carriers)) {
          if (path !== undefined) this.set({ peer }, read(path));
        }
      },
    });
  }
}
