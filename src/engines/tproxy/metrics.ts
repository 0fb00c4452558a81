import type { Registry } from 'prom-client';
import { registerKcpMetrics } from '../kcp/metrics.ts';
import { registerFigures, registerHistogram } from '../metric-family.ts';
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
  const services = (
    give: (labels: Record<string, string>, flow: FlowCounters & { detail?: FlowDetail }) => void,
  ) => {
    for (const [service, sides] of Object.entries(engine.stats().services))
      for (const side of SIDES) give({ service, name: serviceName(service), side }, sides[side]);
  };
  const labelNames = ['service', 'name', 'side'];
  for (const [suffix, help, read] of FLOWS) {
    registerFigures(registry, {
      name: `arctic_tproxy_${suffix}`,
      help,
      labelNames,
      read: (give) => services((labels, flow) => give(labels, read(flow))),
    });
  }
  for (const [suffix, help, read] of DETAILS) {
    registerFigures(registry, {
      name: `arctic_tproxy_${suffix}`,
      help,
      labelNames,
      read: (give) =>
        services((labels, { detail }) => {
          if (detail !== undefined) give(labels, read(detail));
        }),
    });
  }
  registerHistogram(
    registry,
    {
      name: 'arctic_tproxy_open_seconds',
      help: 'Time until the destination was connected.',
      labelNames,
      read: (give) =>
        services((labels, { detail }) => {
          if (detail !== undefined) give(labels, { counts: detail.opened, sum: detail.openMs / 1_000 });
        }),
    },
    OPEN_BOUNDS,
  );
  registerFigures(registry, {
    name: 'arctic_tproxy_links',
    help: 'Links to other agents by state.',
    labelNames: ['peer', 'state'],
    read(give) {
      for (const [peer, links] of Object.entries(engine.stats().carriers)) {
        give({ peer, state: 'idle' }, links.idle);
        give({ peer, state: 'leased' }, links.leased);
      }
    },
  });
  for (const [suffix, help, read] of PATHS) {
    registerFigures(registry, {
      name: `arctic_tproxy_link_${suffix}`,
      help,
      labelNames: ['peer'],
      read(give) {
        for (const [peer, { path }] of Object.entries(engine.stats().carriers))
          if (path !== undefined) give({ peer }, read(path));
      },
    });
  }
}
