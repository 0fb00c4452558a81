import { readFileSync } from 'node:fs';
import { collectDefaultMetrics, Registry } from 'prom-client';
import t from 'tap';
import { parse } from 'yaml';
import { registerTproxyMetrics } from '../../../src/engines/tproxy/metrics.ts';
import { CONDITIONS } from '../../../src/health/table.ts';
import { createHarness } from '../api/harness.ts';

const read = (name: string): string =>
  readFileSync(new URL(`../../../ops/dashboards/${name}`, import.meta.url), 'utf8');

/** Names of what an agent exports, as Prometheus stores them. */
async function exported(t: Parameters<typeof createHarness>[0]): Promise<ReadonlySet<string>> {
  const registry = new Registry();
  collectDefaultMetrics({ register: registry });
  const idle = { stats: () => ({ services: {}, carriers: {}, kcp: {} }) };
  registerTproxyMetrics(registry, idle as Parameters<typeof registerTproxyMetrics>[1], (id) => id);
  const agent = createHarness(t);
  const { text } = await agent.send('GET', '/metrics', { remoteAddress: '127.0.0.1' });
  const names = new Set<string>();
  for (const [, name, type] of `${await registry.metrics()}\n${text}`.matchAll(/^# TYPE (\S+) (\S+)$/gm)) {
    if (name === undefined) continue;
    names.add(name);
    if (type === 'histogram') for (const part of ['bucket', 'sum', 'count']) names.add(`${name}_${part}`);
  }
  return names;
}

const namesIn = (expression: string): readonly string[] =>
  expression.match(/\b(arctic|process|nodejs)_[a-z0-9_]+/g) ?? [];

t.test('the dashboard and the alerts ask for metrics that exist', async (t) => {
  const names = await exported(t);
  t.ok(names.has('arctic_tproxy_connections_total') && names.has('arctic_http_request_seconds_bucket'));
  const dashboard = JSON.parse(read('arctic.json')) as {
    panels: { title: string; targets: { expr: string }[] }[];
    templating: { list: { query: string }[] };
  };
  const alerts = parse(read('alerts.yaml')) as {
    groups: { rules: { alert: string; expr: string; annotations: Record<string, string> }[] }[];
  };
  const rules = alerts.groups.flatMap((group) => group.rules);
  const asked = [
    ...dashboard.panels.flatMap(({ title, targets }) => targets.map(({ expr }) => [title, expr] as const)),
    ...dashboard.templating.list.map(({ query }) => ['variable', query] as const),
    ...rules.map(({ alert, expr }) => [alert, expr] as const),
  ];
  t.ok(asked.length > 25);
  for (const [where, expression] of asked)
    for (const name of namesIn(expression)) t.ok(names.has(name), `${where}: ${name}`);
  for (const { alert, annotations } of rules)
    t.ok(annotations['summary'] && annotations['remedy'], `${alert} says what to do`);
  const shown = new Set(asked.flatMap(([, expression]) => namesIn(expression)));
  for (const name of names)
    if (name.startsWith('arctic_') && !/_(sum|count)$/.test(name))
      t.ok(shown.has(name) || shown.has(`${name}_bucket`), `${name} is on the dashboard`);
});

t.test('every condition that the agent judges is a metric', async (t) => {
  const agent = createHarness(t);
  await agent.bootstrap();
  const { text } = await agent.send('GET', '/metrics', { remoteAddress: '127.0.0.1' });
  const codes = [...text.matchAll(/^arctic_condition\{code="([^"]+)",severity="([^"]+)"\} \d+$/gm)];
  t.ok(codes.length > 20);
  for (const [, code, severity] of codes)
    t.equal(CONDITIONS.find((one) => one.code === code)?.severity, severity, String(code));
});
