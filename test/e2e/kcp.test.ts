/** A service over KCP through two real agents on a long, lossy link: both ways, over TCP while UDP is shut, and back. */
import { createHash, randomBytes } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { createCluster, eventually } from './cluster.ts';

interface ServiceAnswer {
  readonly id: string;
  readonly transport_type: string;
  readonly route_count: number;
  readonly status: Record<string, { state: string }>;
  readonly carried_by: { transport: string; reason: string; round_trip_ms: number | null } | null;
}

const SIZE = 2 * 1024 * 1024;

t.setTimeout(260_000);
t.test('kcp', { timeout: 240_000 }, async (t) => {
  const cluster = await createCluster({ link: { rateMbit: 100, delayMs: 20, lossPercent: 5, queueMs: 50 } });
  t.teardown(() => cluster.lab.destroy());
  const { lab } = cluster;
  const [entry, exit] = [cluster.member(0), cluster.member(1)];
  const target = lab.host('server').address.ipv4;
  const content = randomBytes(SIZE);
  const sum = createHash('sha256').update(content).digest('hex');
  const file = join(lab.host('client').directory, 'file.bin');
  const script = join(lab.host('server').directory, 'echo.mjs');
  writeFileSync(file, content);
  writeFileSync(
    script,
    `import { createServer } from 'node:http';
createServer((request, response) => request.pipe(response)).listen(8000, '::', () => console.log('ready'));\n`,
  );
  const server = lab.spawn('server', [process.execPath, script]);
  await eventually('the server', async () => server.output().includes('ready'));

  /** Sends the file and takes it back, on a connection of its own. */
  async function roundTrip(): Promise<string> {
    const output = join(lab.host('client').directory, 'back.bin');
    const argv = [
      'curl',
      '-sS',
      '--max-time',
      '60',
      '--data-binary',
      `@${file}`,
      '-o',
      output,
      `http://${target}:8000/`,
    ];
    const run = await lab.exec('client', argv, { timeout: 90_000, check: false });
    if (run.code !== 0) {
      const ends = [entry, exit].map(
        ({ agent }) => `${agent.host.name}:\n${agent.process.output().slice(-3_000)}`,
      );
      throw new Error(`curl: exit ${run.code}: ${run.stderr}\n${ends.join('\n')}`);
    }
    return createHash('sha256').update(readFileSync(output)).digest('hex');
  }
  async function service(id: string, member = entry): Promise<ServiceAnswer> {
    const answer = await member.agent.request('GET', `/v1/services/${id}`, { token: member.token });
    return answer.json<ServiceAnswer>();
  }

  const created = await entry.agent.request('POST', '/v1/services', {
    token: entry.token,
    body: { name: 'lossy', target_peer_id: exit.identity.peer_id, transport_type: 'kcp' },
  });
  t.equal(created.status, 201);
  const { id } = created.json<{ id: string }>();
  const routed = await entry.agent.request('POST', `/v1/services/${id}/routes`, {
    token: entry.token,
    body: { routes: [{ priority: 100, dest_cidr: `${target}/32` }] },
  });
  t.equal(routed.status, 201);
  await eventually('the exit has the service and its route', async () => {
    const answer = await exit.agent.request('GET', `/v1/services/${id}`, { token: exit.token });
    if (answer.status !== 200) return false;
    // The route is a change of its own: without it the exit turns the flow away.
    const { route_count, status } = answer.json<ServiceAnswer>();
    return route_count === 1 && status['tproxy']?.state === 'applied';
  });
  await eventually('it is carried over KCP', async () => (await service(id)).carried_by?.transport === 'kcp');

  await t.test('both ways, whole', async (t) => {
    t.equal(await roundTrip(), sum);
    const { carried_by } = await service(id);
    t.match(carried_by, { transport: 'kcp', reason: 'transport_type is kcp' });
    t.ok((carried_by?.round_trip_ms ?? 0) >= 39, `${carried_by?.round_trip_ms} ms, not under the link's 40`);
    t.equal((await service(id, exit)).carried_by, null, 'only the source knows');
  });

  await t.test('over TCP while UDP is shut, with a condition that says so, and back', async (t) => {
    const rules =
      'table inet shut { chain in { type filter hook input priority -300; udp dport 61000 drop; }; }';
    await lab.exec('exit', ['nft', rules]);
    // One way only: what the exit sends still arrives. The entry asks every 5 s, and doubts after 2 s without an answer.
    await sleep(8_000);
    t.equal(await roundTrip(), sum, 'new connections go over TCP long before KCP is given up');
    await eventually(
      'the entry notices',
      async () => (await service(id)).carried_by?.transport === 'tcp',
      90_000,
    );
    t.equal(await roundTrip(), sum);
    const conditions = async () =>
      (await entry.agent.request('GET', '/v1/cluster/status', { token: entry.token })).text;
    await eventually(
      'a condition says so',
      async () => /UDP 61000 of \S+ .*does not answer/.test(await conditions()),
      30_000,
    );
    await lab.exec('exit', ['nft', 'delete table inet shut']);
    await eventually('KCP is back', async () => (await service(id)).carried_by?.transport === 'kcp', 60_000);
    t.notMatch(await conditions(), /UDP 61000/);
    t.equal(await roundTrip(), sum);
  });

  await t.test('auto says what it chose, and why', async (t) => {
    const put = { token: entry.token, body: { transport_type: 'auto' } };
    t.equal((await entry.agent.request('PUT', `/v1/services/${id}`, put)).status, 200);
    await eventually('it has a reason', async () => {
      const { transport_type, carried_by } = await service(id);
      return transport_type === 'auto' && carried_by !== null && carried_by.reason.length > 0;
    });
    t.equal(await roundTrip(), sum);
  });
});
