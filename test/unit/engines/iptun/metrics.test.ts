import { Registry } from 'prom-client';
import t from 'tap';
import type { TunnelStats } from '../../../../src/engines/iptun/contract.ts';
import { registerTunnelMetrics } from '../../../../src/engines/iptun/metrics.ts';
import { statsOf } from '../../../../src/engines/iptun/peer-stats.ts';

const facts = {
  peerId: 'peer_b',
  device: 'arctun00001',
  since: 1_000,
  epoch: 0,
  aead: 3,
  endpoint: { address: 'fd00::1', port: 51_840 },
  heardAt: undefined,
  mtu: 1_416,
};

t.test('tunnels are shown by peer, and what is not known is left out', async (t) => {
  const stats: TunnelStats = {
    port: 51_840,
    peers: [statsOf(facts, undefined, 3_500)],
    refused: { foreign: 1, unknown: 2, forged: 3 },
  };
  const registry = new Registry();
  registerTunnelMetrics(registry, { stats: () => stats }, () => 'paris');
  const text = await registry.metrics();
  t.match(text, 'arctic_tunnel_handshake_age_seconds{peer="peer_b",name="paris"} 2.5');
  t.match(text, 'arctic_tunnel_aead{peer="peer_b",name="paris",aead="AEGIS-128L"} 1');
  t.match(text, 'arctic_tunnel_dropped_total{peer="peer_b",name="paris",reason="source"} 0');
  t.match(text, 'arctic_tunnel_stray_datagrams_total{reason="unknown"} 2');
  t.notMatch(text, 'arctic_tunnel_heard_ago_seconds{');
  t.equal(stats.peers[0]?.endpoint, '[fd00::1]:51840');
});
