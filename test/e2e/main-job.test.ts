/** One accelerated connection through two real agents, and the kernel following the log. */
import { createHash, randomBytes } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { createCluster, eventually, type TestCluster } from './cluster.ts';

interface ServiceAnswer {
  readonly id: string;
  readonly status: Record<string, { state: string; reason: string | null }>;
}

const SIZE = 8 * 1024 * 1024;

async function serveFile(cluster: TestCluster): Promise<string> {
  const directory = cluster.lab.host('server').directory;
  const content = randomBytes(SIZE);
  const file = join(directory, 'file.bin');
  const script = join(directory, 'serve.mjs');
  writeFileSync(file, content);
  writeFileSync(
    script,
    `import { createReadStream } from 'node:fs';
import { createServer } from 'node:http';
createServer((request, response) => {
  response.setHeader('x-seen-from', request.socket.remoteAddress);
  createReadStream(${JSON.stringify(file)}).pipe(response);
}).listen(8000, '::', () => console.log('ready'));\n`,
  );
  const server = cluster.lab.spawn('server', [process.execPath, script]);
  await eventually('file server', async () => server.output().includes('ready'));
  return createHash('sha256').update(content).digest('hex');
}

async function fetchFile(cluster: TestCluster, url: string): Promise<{ sha256: string; seenFrom: string }> {
  const output = join(cluster.lab.host('client').directory, 'fetched.bin');
  const headers = join(cluster.lab.host('client').directory, 'headers.txt');
  const run = await cluster.lab.exec('client', [
    'curl',
    '-sS',
    '-g',
    '--max-time',
    '30',
    '-o',
    output,
    '-D',
    headers,
    url,
  ]);
  if (run.code !== 0) throw new Error(`curl ${url}: exit ${run.code}: ${run.stderr}`);
  const seen = /x-seen-from: (.+)\r/i.exec(readFileSync(headers, 'utf8'))?.[1] ?? '';
  return {
    sha256: createHash('sha256').update(readFileSync(output)).digest('hex'),
    seenFrom: seen.replace('::ffff:', ''),
  };
}

t.test(
  'two agents carry a connection that client and server know nothing of',
  { timeout: 180_000 },
  async (t) => {
    // Without the owner flag, since rules are deleted by hand below.
    const cluster = await createCluster({ env: { FIREWALL_OWNER: '0' } });
    t.teardown(() => cluster.lab.destroy());
    const entry = cluster.member(0);
    const exit = cluster.member(1);
    const sha256 = await serveFile(cluster);
    const server = cluster.lab.host('server').address;
    const exitLan = cluster.lab.host('exit').interfaces.find((one) => one.name === 'lan0');

    const direct = await fetchFile(cluster, `http://${server.ipv4}:8000/`);
    t.equal(direct.sha256, sha256, 'the file arrives without Arctic');
    t.equal(direct.seenFrom, cluster.lab.host('client').address.ipv4, 'and the server sees the client');

    const created = await entry.agent.request('POST', '/v1/services', {
      token: entry.token,
      body: { name: 'to-server', target_peer_id: exit.identity.peer_id },
    });
    t.equal(created.status, 201, created.text);
    const service = created.json<ServiceAnswer>();
    const routed = await entry.agent.request('POST', `/v1/services/${service.id}/routes`, {
      token: entry.token,
      body: {
        routes: [
          { priority: 100, dest_cidr: '10.91.3.0/24' },
          { priority: 100, dest_cidr: 'fd91:3::/64' },
        ],
      },
    });
    t.equal(routed.status, 201, routed.text);
    await eventually('applied', async () => {
      const now = await entry.agent.request('GET', `/v1/services/${service.id}`, { token: entry.token });
      const status = now.json<ServiceAnswer>().status;
      return status['firewall']?.state === 'applied' && status['tproxy']?.state === 'applied'
        ? status
        : false;
    });
    await eventually('the exit knows the service', async () => {
      const now = await exit.agent.request('GET', `/v1/services/${service.id}`, { token: exit.token });
      return now.status === 200 && now.json<ServiceAnswer>().status['tproxy']?.state === 'applied';
    });

    await t.test('IPv4 and IPv6 go through both engines', async (t) => {
      const v4 = await fetchFile(cluster, `http://${server.ipv4}:8000/`);
      t.equal(v4.sha256, sha256, 'IPv4 checksum');
      t.equal(v4.seenFrom, exitLan?.ipv4, 'the server sees the exit');
      const v6 = await fetchFile(cluster, `http://[${server.ipv6}]:8000/`);
      t.equal(v6.sha256, sha256, 'IPv6 checksum');
      t.equal(v6.seenFrom, exitLan?.ipv6, 'the server sees the exit over IPv6');
    });

    await t.test("the entry host's own connections are captured too", async (t) => {
      const run = await cluster.lab.exec('entry', [
        'curl',
        '-sS',
        '--max-time',
        '10',
        '-o',
        '/dev/null',
        '-D',
        '-',
        `http://${server.ipv4}:8000/`,
      ]);
      t.match(run.stdout, new RegExp(`x-seen-from: (::ffff:)?${exitLan?.ipv4}`, 'i'));
    });

    await t.test('a table that somebody deletes comes back, and the log says so', async (t) => {
      const gone = await cluster.lab.exec('entry', ['nft', 'delete', 'table', 'inet', 'arctic']);
      t.equal(gone.code, 0, gone.stderr);
      await eventually('repair', async () => {
        const table = await cluster.lab.exec('entry', ['nft', 'list', 'table', 'inet', 'arctic'], {
          check: false,
        });
        return table.code === 0 && table.stdout.includes('tproxy');
      });
      const found = await eventually('drift event', async () => {
        const events = await entry.agent.request('GET', '/v1/events?type=drift.found', {
          token: entry.token,
        });
        const items = events.json<{ events: { data: { program: string | null } }[] }>().events;
        return items.length > 0 ? items : undefined;
      });
      t.ok(
        found.some((event) => event.data.program === 'nft'),
        'names the program',
      );
      t.equal((await fetchFile(cluster, `http://${server.ipv4}:8000/`)).seenFrom, exitLan?.ipv4);
    });

    await t.test(
      "the exit's agent starts again, and whoever connects meanwhile waits no longer than that",
      async (t) => {
        t.equal((await exit.agent.stop()).code, 0);
        const waiting = fetchFile(cluster, `http://${server.ipv4}:8000/`);
        await cluster.lab.startAgent('exit', { env: { FIREWALL_OWNER: '0' } });
        t.match(await waiting, { sha256, seenFrom: exitLan?.ipv4 });
        t.match(await fetchFile(cluster, `http://[${server.ipv6}]:8000/`), {
          sha256,
          seenFrom: exitLan?.ipv6,
        });
      },
    );

    await t.test('deleting the service sends traffic the direct way again', async (t) => {
      const removed = await entry.agent.request('DELETE', `/v1/services/${service.id}`, {
        token: entry.token,
      });
      t.equal(removed.status, 204, removed.text);
      await eventually('direct', async () => {
        const now = await fetchFile(cluster, `http://${server.ipv4}:8000/`);
        return now.seenFrom === cluster.lab.host('client').address.ipv4;
      });
    });

    await t.test('a stopped agent leaves no rule that captures traffic', async (t) => {
      const ended = await entry.agent.stop();
      t.equal(ended.code, 0, 'exit code');
      const rules = await cluster.lab.exec('entry', ['nft', 'list', 'ruleset']);
      t.notMatch(rules.stdout, /tproxy/);
      t.equal((await fetchFile(cluster, `http://${server.ipv4}:8000/`)).sha256, sha256);
    });
  },
);
