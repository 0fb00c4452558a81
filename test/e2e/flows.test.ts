/** What becomes of established connections when the route or the service that carries them changes or goes. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import type { LabProcess } from '../../ops/lab/process.ts';
import { createCluster, eventually, type TestCluster } from './cluster.ts';

const ECHO = `import { createServer } from 'node:net';
createServer((socket) => { socket.on('error', () => {}); socket.pipe(socket); }).listen(7000, '::', () => console.log('ready'));
`;
/** Says \`echo N\` for each answer, and how it ended. */
const CLIENT = `import { connect } from 'node:net';
const socket = connect(7000, process.argv[2]);
let count = 0;
socket.on('connect', () => setInterval(() => socket.write('x'), 20));
socket.on('data', () => console.log('echo ' + ++count));
socket.on('error', (error) => console.log('ended ' + error.code));
socket.on('close', () => { console.log('closed'); process.exit(0); });
`;

function start(
  cluster: TestCluster,
  host: string,
  name: string,
  text: string,
  ...args: string[]
): LabProcess {
  const script = join(cluster.lab.host(host).directory, `${name}.mjs`);
  writeFileSync(script, text);
  return cluster.lab.spawn(host, [process.execPath, script, ...args]);
}

const echoes = (client: LabProcess): number => client.output().split('echo ').length - 1;

/** Waits for ten answers more. */
async function goesOn(client: LabProcess): Promise<void> {
  const before = echoes(client);
  await eventually('more echoes', async () => echoes(client) > before + 10);
}

t.test(
  'established connections are kept, or reset where that is asked for',
  { timeout: 120_000 },
  async (t) => {
    const cluster = await createCluster();
    t.teardown(() => cluster.lab.destroy());
    const [entry, exit] = [cluster.member(0), cluster.member(1)];
    const server = start(cluster, 'server', 'echo', ECHO);
    await eventually('echo server', async () => server.output().includes('ready'));
    const call = async (method: string, path: string, body?: unknown): Promise<string> => {
      const answer = await entry.agent.request(method, path, {
        token: entry.token,
        ...(body === undefined ? {} : { body }),
      });
      if (answer.status >= 300) throw new Error(`${method} ${path}: ${answer.status} ${answer.text}`);
      return answer.text;
    };
    const created = await call('POST', '/v1/services', {
      name: 'echo',
      target_peer_id: exit.identity.peer_id,
    });
    const { id } = JSON.parse(created) as { id: string };
    const address = cluster.lab.host('server').address.ipv4;
    const add = async (dest: string): Promise<number> => {
      const text = await call('POST', `/v1/services/${id}/routes`, {
        routes: [{ priority: 100, dest_cidr: dest }],
      });
      return (JSON.parse(text) as { route_ids: number[] }).route_ids[0] ?? 0;
    };
    let clients = 0;
    /** The exit may not know of the service yet: then the client is turned away, and tries again. */
    const connect = (): Promise<LabProcess> =>
      eventually('a connection', async () => {
        clients += 1;
        const client = start(cluster, 'client', `client-${clients}`, CLIENT, address);
        await eventually('echo or end', async () => /echo 10\n|closed/.test(client.output()));
        return client.output().includes('closed') ? undefined : client;
      });

    const route = await add(`${address}/32`);
    await eventually('rule', async () => {
      const table = await cluster.lab.exec('entry', ['nft', 'list', 'table', 'inet', 'arctic']);
      return table.stdout.includes(address);
    });
    const kept = await connect();
    await call('DELETE', `/v1/services/${id}/routes/${route}`);
    await goesOn(kept);
    t.notMatch(kept.output(), /ended|closed/, 'a connection outlives its route');

    const again = await add(`${address}/32`);
    const other = await add('203.0.113.0/24');
    await eventually('rules', async () => {
      const table = await cluster.lab.exec('entry', ['nft', 'list', 'table', 'inet', 'arctic']);
      return table.stdout.includes('203.0.113.0');
    });
    await call('DELETE', `/v1/services/${id}/routes/${other}?reset_flows=true`);
    await goesOn(kept);
    t.notMatch(kept.output(), /ended|closed/, 'one of another route is left alone');

    const second = await connect();
    await call('DELETE', `/v1/services/${id}/routes/${again}?reset_flows=true`);
    for (const client of [kept, second]) {
      await eventually('reset', async () => client.output().includes('closed'));
      t.match(client.output(), /ended ECONNRESET/, 'the client is told at once');
    }
    const direct = await connect();
    await goesOn(direct);
    t.notMatch(direct.output(), /ended|closed/, 'whoever comes back goes directly');

    await add(`${address}/32`);
    await eventually('rule', async () => {
      const table = await cluster.lab.exec('entry', ['nft', 'list', 'table', 'inet', 'arctic']);
      return table.stdout.includes(address);
    });
    const last = await connect();
    await call('DELETE', `/v1/services/${id}?reset_flows=true`);
    await eventually('reset', async () => last.output().includes('closed'));
    t.notMatch(direct.output(), /ended|closed/, 'what the service did not carry is left alone');
    const events = await call('GET', '/v1/events?type=service.flows_reset');
    t.match(JSON.parse(events), { events: [{ entity: id }, { entity: id }, { entity: id }] });
  },
);
