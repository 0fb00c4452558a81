import { Registry } from 'prom-client';
import t from 'tap';
import { registerKcpMetrics } from '../../../../src/engines/kcp/metrics.ts';
import { readKcpStats, withoutKcp } from '../../../../src/engines/kcp/stats.ts';

t.test('each peer over KCP is shown, and whether it answers', async (t) => {
  const registry = new Registry();
  const kcp = {
    near: readKcpStats('2 1500 20000 300 4 1000000 3 10 11 12 13 14 15 16'.split(' ')),
    ...withoutKcp([{ peerId: 'far', transport: 'kcp' }]),
  };
  registerKcpMetrics(registry, { stats: () => ({ kcp }) });
  const text = await registry.metrics();
  for (const line of [
    'arctic_kcp_up{peer="near"} 1',
    'arctic_kcp_up{peer="far"} 0',
    'arctic_kcp_rtt_seconds{peer="near"} 0.0015',
    'arctic_kcp_loss_ratio{peer="near"} 0.02',
    'arctic_kcp_repeated_segments_total{peer="near"} 16',
  ]) {
    t.ok(text.includes(`${line}\n`), line);
  }
});
