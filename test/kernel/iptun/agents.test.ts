/** Real agents: what is not TCP goes through the tunnel, and survives the restart of either. */
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { createCluster, eventually } from '../../e2e/cluster.ts';
import { mayMakeNamespaces } from '../netns.ts';

if (!mayMakeNamespaces()) t.bailout('these tests need root to make network namespaces');

const PROGRAM = fileURLToPath(new URL('./traffic-process.ts', import.meta.url));
const NODE = [process.execPath, '--import=tsx', PROGRAM];

interface Iptun {
  readonly status: { readonly iptun: { readonly state: string; readonly reason: string | null } };
}

t.test('two agents carry ICMP and UDP', { timeout: 200_000 }, async (t) => {
  const cluster = await createCluster();
  t.teardown(() => cluster.lab.destroy());
  const entry = cluster.member(0);
  const exit = cluster.member(1);
  const server = cluster.lab.host('server').address;
  const echo = cluster.lab.spawn('server', [...NODE, 'serve', '7777']);
  await eventually('echo server', async () => echo.output().includes('{}'));
  const traffic = async (...args: string[]): Promise<{ received: number; bad: number }> => {
    const run = await cluster.lab.exec('client', [...NODE, ...args]);
    if (run.code !== 0) throw new Error(`${args.join(' ')}: ${run.stderr}`);
    return JSON.parse(run.stdout);
  };

  const created = await entry.agent.request('POST', '/v1/services', {
    token: entry.token,
    body: { name: 'to-server', target_peer_id: exit.identity.peer_id },
  });
  t.equal(created.status, 201, created.text);
  const { id } = created.json<{ id: string }>();
  const routed = await entry.agent.request('POST', `/v1/services/${id}/routes`, {
    token: entry.token,
    body: {
      routes: [
        { priority: 100, dest_cidr: '10.91.3.0/24' },
        { priority: 100, dest_cidr: 'fd91:3::/64' },
      ],
    },
  });
  t.equal(routed.status, 201, routed.text);
  const applied = (member: typeof entry) => async () => {
    const now = await member.agent.request('GET', `/v1/services/${id}`, { token: member.token });
    const iptun = now.status === 200 ? now.json<Iptun>().status.iptun : undefined;
    return iptun?.state === 'applied' && /^handshake/.test(iptun.reason ?? '') ? iptun : false;
  };
  await eventually('the entry has applied it', applied(entry));
  await eventually('the exit has applied it', applied(exit));

  const throughTunnel = async (): Promise<number> => {
    const now = await applied(entry)();
    return now === false ? 0 : Number(/(\d+) B in/.exec(now.reason ?? '')?.[1] ?? 0);
  };
  await eventually('the tunnel carries', async () => {
    await traffic('ping', server.ipv4 ?? '', '56', 'want', '1');
    return (await throughTunnel()) > 0;
  });
  const before = await throughTunnel();
  for (const address of [server.ipv4, server.ipv6]) {
    t.match(await traffic('ping', address ?? '', '56', 'want', '3'), { received: 3, bad: 0 }, `${address}`);
    const echoes = await traffic('udp', address ?? '', '7777', '500', '200');
    t.equal(echoes.bad, 0);
    t.ok(echoes.received >= 480, `${echoes.received} of 500 echoes from ${address}`);
  }
  const carried = (await throughTunnel()) - before;
  t.ok(carried > 2 * 450 * 500, `${carried} bytes came back through the tunnel`);

  // Killed as by a crash: with the log read again and a new handshake the tunnel is as it was.
  exit.agent.kill();
  await exit.agent.process.ended;
  await cluster.lab.startAgent('exit');
  const restarted = await throughTunnel();
  await eventually('the tunnel carries again', async () => {
    await traffic('ping', server.ipv4 ?? '', '56', 'want', '1');
    return (await throughTunnel()) > restarted;
  });
  t.match(await traffic('ping', server.ipv4 ?? '', '56', 'want', '3'), { received: 3, bad: 0 });
});
