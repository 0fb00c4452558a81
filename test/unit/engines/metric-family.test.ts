import { Registry } from 'prom-client';
import t from 'tap';
import type { FlowCounters, FlowDetail, TproxyStats } from '../../../src/engines/tproxy/contract.ts';
import { OPEN_BOUNDS } from '../../../src/engines/tproxy/contract.ts';
import { registerTproxyMetrics } from '../../../src/engines/tproxy/metrics.ts';

/** What `promtool check metrics` asks of names and types. */
function faults(text: string): readonly string[] {
  const found: string[] = [];
  for (const [, name = '', type] of text.matchAll(/^# TYPE (\S+) (\S+)$/gm)) {
    if (name.endsWith('_total') !== (type === 'counter')) found.push(`${name} is a ${type}`);
    if (/_(bucket|sum|count)$/.test(name)) found.push(`${name} is named like a part of a histogram`);
  }
  return found;
}

const detail: FlowDetail = {
  reused: 3,
  timedOut: 0,
  limiterWaits: 2,
  limiterWaitMs: 1_500,
  opened: OPEN_BOUNDS.map((_, bucket) => (bucket < 2 ? bucket + 1 : 0)).concat(4),
  openMs: 30_250,
};
const flow: FlowCounters & { readonly detail: FlowDetail } = {
  connections: 7,
  active: 1,
  bytesIn: 70,
  bytesOut: 700,
  refused: 0,
  failed: 0,
  detail,
};
const stats = {
  services: { svc_a: { entry: flow, exit: { ...flow, connections: 0 } } },
  carriers: {
    peer_b: { idle: 8, leased: 1, path: { rttMs: 100, bytesSent: 9_000, bytesRetransmitted: 90 } },
  },
  kcp: {},
};

t.test('what only grows is a counter, and to ask again adds nothing', async (t) => {
  const registry = new Registry();
  registerTproxyMetrics(registry, { stats: () => stats as unknown as TproxyStats }, () => 'demo');
  const text = await registry.metrics();
  t.strictSame(faults(text), []);
  t.equal(await registry.metrics(), text);
  const entry = 'service="svc_a",name="demo",side="entry"';
  for (const line of [
    '# TYPE arctic_tproxy_connections_total counter',
    `arctic_tproxy_connections_total{${entry}} 7`,
    'arctic_tproxy_connections_total{service="svc_a",name="demo",side="exit"} 0',
    '# TYPE arctic_tproxy_active_connections gauge',
    `arctic_tproxy_limiter_wait_seconds_total{${entry}} 1.5`,
    'arctic_tproxy_links{peer="peer_b",state="idle"} 8',
    'arctic_tproxy_link_sent_bytes_total{peer="peer_b"} 9000',
  ])
    t.ok(text.split('\n').includes(line), line);
});

t.test('open latency is a histogram as Prometheus reads one', async (t) => {
  const registry = new Registry();
  registerTproxyMetrics(registry, { stats: () => stats as unknown as TproxyStats }, () => 'demo');
  const lines = (await registry.metrics()).split('\n').filter((line) => line.includes('open_seconds'));
  t.equal(lines[1], '# TYPE arctic_tproxy_open_seconds histogram');
  const entry = lines.filter((line) => line.includes('side="entry"'));
  const bucket = (le: number | string) =>
    `arctic_tproxy_open_seconds_bucket{service="svc_a",name="demo",side="entry",le="${le}"}`;
  t.equal(entry.length, OPEN_BOUNDS.length + 3);
  t.equal(entry[0], `${bucket(OPEN_BOUNDS[0])} 1`);
  t.equal(
    entry[OPEN_BOUNDS.length - 1],
    `${bucket(OPEN_BOUNDS.at(-1) ?? '')} 3`,
    'each bucket holds those below',
  );
  t.equal(entry[OPEN_BOUNDS.length], `${bucket('+Inf')} 7`);
  t.match(entry[OPEN_BOUNDS.length + 1], /_sum\{.*\} 30\.25$/);
  t.match(entry[OPEN_BOUNDS.length + 2], /_count\{.*\} 7$/);
});
