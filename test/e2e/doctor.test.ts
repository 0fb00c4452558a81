import { chmodSync, existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { createCluster, eventually } from './cluster.ts';
import { operator } from './operator.ts';

interface Report {
  readonly status: string;
  readonly areas: readonly { readonly area: string; readonly state: string }[];
  readonly findings: readonly {
    readonly code: string;
    readonly subject: string | null;
    readonly text: string;
    readonly remedy: string;
  }[];
  readonly not_checked: readonly string[];
}

t.test('doctor finds what is the matter, with the agent up and with it down', async (t) => {
  const cluster = await createCluster();
  t.teardown(() => cluster.lab.destroy());
  const run = operator(cluster, 0);
  const entry = cluster.member(0);
  const exit = cluster.member(1);
  const examine = async (...flags: string[]): Promise<Report & { exit: number | null }> => {
    const { code, stdout, stderr } = await run('doctor', '--json', ...flags);
    t.match(stdout, /^\{/, stderr);
    return { ...(JSON.parse(stdout) as Report), exit: code };
  };
  const codes = ({ findings }: Report) => findings.map(({ code }) => code);
  const areaOf = ({ areas }: Report, name: string) => areas.find(({ area }) => area === name)?.state;

  const well = await examine();
  t.equal(well.exit, 0);
  t.same(codes(well), ['api-plain-http'], 'the API of a lab has no TLS');
  t.same(well.not_checked, []);
  for (const { area, state } of well.areas) t.equal(state, area === 'API' ? 'warning' : 'ok', area);

  const status = await entry.agent.request('GET', '/v1/cluster/status', { token: entry.token });
  t.same(
    status.json<{ conditions: { code: string }[] }>().conditions.map(({ code }) => code),
    ['api-plain-http'],
    'the agent knows the same table',
  );
  const metrics = (await entry.agent.request('GET', '/metrics')).text;
  t.match(metrics, /^arctic_condition\{code="api-plain-http",severity="warning"\} 1$/m);
  t.match(metrics, /^arctic_condition\{code="peer-unreachable",severity="critical"\} 0$/m);

  const created = await entry.agent.request('POST', '/v1/services', {
    body: { name: 'idle', target_peer_id: exit.identity.peer_id, bandwidth_limit_mbps: 7 },
    token: entry.token,
  });
  t.equal(created.status, 201);
  const idle = await examine();
  t.ok(codes(idle).includes('service-without-route') && codes(idle).includes('service-limited'));

  await exit.agent.stop();
  await eventually(
    'the entry misses the exit',
    async () => codes(await examine()).includes('peer-unreachable'),
    60_000,
  );
  const alone = await examine();
  t.equal(alone.exit, 1);
  t.match(
    alone.findings.find(({ code }) => code === 'peer-unreachable'),
    { subject: 'exit', remedy: /systemctl start arctic|curl/ },
  );
  t.notOk(codes(alone).includes('peer-carrier-closed'), 'no consequence beside its cause');

  const removed = await entry.agent.request('DELETE', `/v1/peers/${exit.identity.peer_id}`, {
    token: entry.token,
  });
  t.equal(removed.status, 204);
  const widowed = await examine();
  t.match(
    widowed.findings.find(({ code }) => code === 'service-without-peer'),
    { subject: 'idle', text: /exit was removed from the cluster/ },
  );
  t.match(
    (await entry.agent.request('GET', '/v1/cluster/status', { token: entry.token })).text,
    /service-without-peer/,
    'the agent says so, too',
  );

  await entry.agent.stop();
  const down = await examine('--full');
  t.equal(down.exit, 1);
  t.ok(codes(down).includes('agent-silent'), down.findings.map(({ text }) => text).join('\n'));
  t.equal(areaOf(down, 'database'), 'ok', 'the log is verified offline');
  t.equal(areaOf(down, 'kernel'), 'ok', 'so is the kernel');

  // Another program on the port is the cause; that nothing answers only follows.
  const squatter = cluster.lab.spawn('entry', [
    process.execPath,
    '-e',
    "require('node:net').createServer((s) => s.destroy()).listen(8080, '::', () => console.log('ready'))",
  ]);
  await eventually('the squatter listens', async () => squatter.output().includes('ready'));
  const taken = await examine();
  t.ok(codes(taken).includes('port-taken'));
  t.match(
    taken.findings.find(({ code }) => code === 'port-taken')?.text,
    /node \(process \d+\) holds TCP 8080/,
  );
  t.notOk(codes(taken).includes('agent-silent'));
  await squatter.stop();

  const key = join(entry.agent.dataDir, 'peer.key');
  chmodSync(key, 0o644);
  chmodSync(join(entry.agent.configDir, 'trust-roots', 'root.pub'), 0o666);
  writeFileSync(join(entry.agent.configDir, 'arctic.env'), 'RESYNC_SECONDS=never\n');
  const careless = codes(await examine());
  for (const code of ['private-file-exposed', 'trust-root-refused', 'settings-invalid'])
    t.ok(careless.includes(code), code);
  chmodSync(key, 0o600);
  writeFileSync(join(entry.agent.configDir, 'arctic.env'), '');

  const database = join(entry.agent.dataDir, 'arctic.db');
  t.ok(existsSync(database));
  const bytes = readFileSync(database);
  bytes.fill(0x41, bytes.length - 3_000, bytes.length - 200);
  writeFileSync(database, bytes);
  const damaged = await examine('--full');
  t.ok(codes(damaged).includes('database-damaged'), codes(damaged).join(' '));
  t.match(damaged.findings.find(({ code }) => code === 'database-damaged')?.remedy, /arctic restore/);

  const text = await run('doctor');
  t.match(text.stdout, /^database +CRITICAL\n {4}/m);
  for (const line of text.stdout.split('\n')) t.ok(line.length <= 80 || !line.trim().includes(' '), line);
});
