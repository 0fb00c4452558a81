/** What stands between an agent's rules and other people's: the owner flag, an end without notice, and looking without touching. */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { createCluster, eventually, type TestCluster } from './cluster.ts';

/** A server that says who spoke to it, and outlives connections that an agent's end resets. */
async function serve(cluster: TestCluster): Promise<void> {
  const script = join(cluster.lab.host('server').directory, 'who.mjs');
  writeFileSync(
    script,
    `import { createServer } from 'node:net';
createServer((socket) => {
  socket.on('error', (error) => console.log(error.code));
  socket.end('seen ' + socket.remoteAddress);
}).listen(8000, '::', () => console.log('ready'));\n`,
  );
  const server = cluster.lab.spawn('server', [process.execPath, script]);
  await eventually('server', async () => server.output().includes('ready'));
}

/** Whom the server saw, or the error. */
async function ask(cluster: TestCluster, from: string): Promise<string> {
  const { ipv4 } = cluster.lab.host('server').address;
  const code = `const s = require('node:net').connect(8000, '${ipv4}'); s.setTimeout(5000, () => s.destroy(new Error('timeout')));
s.on('error', (e) => console.log(e.code ?? e.message)); s.on('data', (d) => process.stdout.write(d));`;
  const run = await cluster.lab.exec(from, [process.execPath, '-e', code]);
  return run.stdout.trim().replace('::ffff:', '');
}

async function addService(cluster: TestCluster, settings: object = {}): Promise<string> {
  const entry = cluster.member(0);
  const created = await entry.agent.request('POST', '/v1/services', {
    token: entry.token,
    body: { name: 'to-server', target_peer_id: cluster.member(1).identity.peer_id, ...settings },
  });
  if (created.status !== 201) throw new Error(created.text);
  const { id } = created.json<{ id: string }>();
  const routed = await entry.agent.request('POST', `/v1/services/${id}/routes`, {
    token: entry.token,
    body: { routes: [{ priority: 100, dest_cidr: '10.91.3.0/24' }] },
  });
  if (routed.status !== 201) throw new Error(routed.text);
  return id;
}

t.test('an agent with an empty PATH owns its rules, and they go with it', { timeout: 180_000 }, async (t) => {
  const cluster = await createCluster({ env: { PATH: '' } });
  t.teardown(() => cluster.lab.destroy());
  const environment = readFileSync(`/proc/${cluster.member(0).agent.process.pid}/environ`, 'utf8');
  t.ok(environment.split('\0').includes('PATH='), 'the agent finds no program');
  await serve(cluster);
  const exit = cluster.lab.host('exit').interfaces.find((one) => one.name === 'lan0')?.ipv4;
  const client = cluster.lab.host('client').address.ipv4;
  await addService(cluster);
  await eventually('captured', async () => (await ask(cluster, 'client')) === `seen ${exit}`);

  const refused = await cluster.lab.exec('entry', ['nft', 'delete', 'table', 'inet', 'arctic'], {
    check: false,
  });
  t.not(refused.code, 0, 'nobody else can delete the table');
  t.match(refused.stderr, /Operation not permitted/);
  await cluster.lab.exec('entry', ['nft', 'flush', 'ruleset']);
  t.equal(await ask(cluster, 'client'), `seen ${exit}`, 'a flush by others passes it by');
  t.equal(await ask(cluster, 'entry'), `seen ${exit}`, "and the host's own connections too");

  cluster.member(0).agent.kill('SIGKILL');
  await eventually('the process is gone', async () => !cluster.member(0).agent.process.running);
  t.equal(
    await ask(cluster, 'client'),
    `seen ${client}`,
    'killed: forwarded connections go directly at once',
  );
  t.match(await ask(cluster, 'entry'), /^seen 10\./, 'and the own ones');
  const rules = await cluster.lab.exec('entry', ['nft', 'list', 'ruleset']);
  t.notMatch(rules.stdout, /table inet arctic \{/, 'nothing is left of it');
});

t.test('on_failure reject: nothing slips past a dead agent', { timeout: 180_000 }, async (t) => {
  const cluster = await createCluster();
  t.teardown(() => cluster.lab.destroy());
  await serve(cluster);
  const exit = cluster.lab.host('exit').interfaces.find((one) => one.name === 'lan0')?.ipv4;
  const id = await addService(cluster, { on_failure: 'reject' });
  await eventually('captured', async () => (await ask(cluster, 'client')) === `seen ${exit}`);
  const entry = cluster.member(0);
  entry.agent.kill('SIGKILL');
  await eventually('the process is gone', async () => !entry.agent.process.running);
  t.equal(await ask(cluster, 'client'), 'ECONNREFUSED');
  t.equal(await ask(cluster, 'entry'), 'ECONNREFUSED');

  const again = await cluster.lab.startAgent('entry');
  await eventually('captured again', async () => (await ask(cluster, 'client')) === `seen ${exit}`);
  const changed = await again.request('PUT', `/v1/services/${id}`, {
    token: entry.token,
    body: { on_failure: 'direct' },
  });
  t.equal(changed.status, 200, changed.text);
  t.equal(changed.json<{ on_failure: string }>().on_failure, 'direct');
  await eventually('the guard goes', async () => {
    const tables = await cluster.lab.exec('entry', ['nft', 'list', 'tables']);
    return !tables.stdout.includes('arctic_guard') && tables.stdout.includes('table inet arctic\n');
  });
});

t.test('OBSERVE_ONLY reports and applies nothing', { timeout: 180_000 }, async (t) => {
  const cluster = await createCluster({ env: { OBSERVE_ONLY: '1' } });
  t.teardown(() => cluster.lab.destroy());
  await addService(cluster);
  const entry = cluster.member(0);
  const found = await eventually('report', async () => {
    const events = await entry.agent.request('GET', '/v1/events?type=drift.found', { token: entry.token });
    const items = events.json<{ events: { data: { reconciler: string } }[] }>().events;
    return items.some((event) => event.data.reconciler === 'firewall') ? items : undefined;
  });
  t.ok(found.length > 0);
  const tables = await cluster.lab.exec('entry', ['nft', 'list', 'tables']);
  t.equal(tables.stdout.trim(), '', 'nothing was written');
  const status = await entry.agent.request('GET', '/v1/reconcilers', { token: entry.token });
  t.match(status.text, /observe only: nothing is applied/);
  const ready = await entry.agent.request('GET', '/readyz');
  t.match(ready.text, /"reconciler firewall","ok":true,"detail":"pending; observe only/);
});
