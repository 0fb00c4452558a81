import type { Registry } from 'prom-client';
import { registerFigures } from '../metric-family.ts';
import type { KcpStats } from './stats.ts';

/** What is shown of each peer that should be reached over KCP. */
const FIGURES: readonly (readonly [suffix: string, help: string, read: (stats: KcpStats) => number])[] = [
  ['up', '1 while the peer answers over KCP.', ({ state }) => (state === 'up' ? 1 : 0)],
  ['flows', 'Connections carried over KCP now.', ({ flows }) => flows],
  ['rtt_seconds', 'Round trip of the association.', ({ roundTripMs }) => roundTripMs / 1_000],
  ['loss_ratio', 'Share of datagrams that do not arrive, of the worse direction.', ({ loss }) => loss ?? 0],
  ['bandwidth_bits', 'Bits a second the path has been seen to carry.', ({ bandwidthBits }) => bandwidthBits],
  ['parity_datagrams', 'Parity datagrams sent with each group of 20 now.', ({ parity }) => parity],
  ['sent_datagrams_total', 'Datagrams sent.', ({ sentDatagrams }) => sentDatagrams],
  ['sent_bytes_total', 'Bytes sent in datagrams.', ({ sentBytes }) => sentBytes],
  ['received_datagrams_total', 'Datagrams received.', ({ receivedDatagrams }) => receivedDatagrams],
  ['received_bytes_total', 'Bytes received in datagrams.', ({ receivedBytes }) => receivedBytes],
  ['missing_datagrams_total', 'Datagrams sent that never arrived.', ({ missing }) => missing],
  ['recovered_datagrams_total', 'Datagrams worked out from parity here.', ({ recovered }) => recovered],
  ['repeated_segments_total', 'Segments sent again.', ({ repeated }) => repeated],
];

/** Adds the counters of KCP to a registry; they are read when somebody asks. */
export function registerKcpMetrics(
  registry: Registry,
  engine: { stats(): { readonly kcp: Readonly<Record<string, KcpStats>> } },
): void {
  for (const [suffix, help, read] of FIGURES) {
    registerFigures(registry, {
      name: `arctic_kcp_${suffix}`,
      help,
      labelNames: ['peer'],
      read(give) {
        for (const [peer, stats] of Object.entries(engine.stats().kcp)) give({ peer }, read(stats));
      },
    });
  }
}
