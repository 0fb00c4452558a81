/** Three real agents under partition, kill -9, and a database put back from an older copy: they end with the same digest. */
import { cpSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { createCluster, eventually, type Member } from './cluster.ts';

interface Status {
  readonly projection_digest: string;
  readonly peers: readonly { readonly id: string; readonly state: string }[];
}

t.test('three agents heal after everything that goes wrong', { timeout: 400_000 }, async (t) => {
  const cluster = await createCluster({ agents: ['north', 'south', 'west'] });
  t.teardown(() => cluster.lab.destroy());
  const [north, south, west] = [cluster.member(0), cluster.member(1), cluster.member(2)];
  const all = [north, south, west];
  let count = 0;

  const statusOf = async ({ agent, token }: Member): Promise<Status> =>
    (await agent.request('GET', '/v1/cluster/status', { token })).json<Status>();
  const agree = (limit = 60_000) =>
    eventually(
      'the same digest everywhere, everybody active',
      async () => {
        const states = await Promise.all(all.map(statusOf));
        return (
          new Set(states.map((one) => one.projection_digest)).size === 1 &&
          states.every(({ peers }) => peers.length === 3 && peers.every((peer) => peer.state === 'active'))
        );
      },
      limit,
    );
  const write = async (member: Member, target: Member): Promise<number> => {
    count += 1;
    const answer = await member.agent.request('POST', '/v1/services', {
      token: member.token,
      body: { name: `service-${count}`, target_peer_id: target.identity.peer_id },
    });
    return answer.status;
  };
  const written = async (member: Member): Promise<number> =>
    (await member.agent.request('GET', '/v1/services', { token: member.token })).json<{
      services: unknown[];
    }>().services.length;
  await agree();

  await t.test('a partition in which both sides write', async (t) => {
    await cluster.lab.setInterface('west', 'wan0', 'down');
    for (let i = 0; i < 3; i += 1) t.equal(await write(north, south), 201);
    for (let i = 0; i < 3; i += 1) t.equal(await write(west, north), 201);
    await cluster.lab.setInterface('west', 'wan0', 'up');
    await cluster.lab.exec('west', ['ip', 'route', 'replace', 'default', 'via', '10.91.22.254']);
    await agree();
    for (const member of all) t.equal(await written(member), 6);
  });

  await t.test('kill -9 and a restart', async (t) => {
    t.equal(await write(south, north), 201);
    south.agent.kill();
    await south.agent.process.ended;
    t.equal(await write(north, west), 201);
    await cluster.lab.startAgent('south');
    await agree();
    for (const member of all) t.equal(await written(member), 8);
  });

  await t.test(
    'a database from an older copy: what the host wrote since comes back before it writes',
    async (t) => {
      const copy = mkdtempSync(join(tmpdir(), 'arctic-copy-'));
      t.teardown(() => rmSync(copy, { recursive: true, force: true }));
      await west.agent.stop();
      cpSync(west.agent.dataDir, copy, { recursive: true });
      await cluster.lab.startAgent('west');
      await agree();
      for (let i = 0; i < 3; i += 1) t.equal(await write(west, south), 201);
      await agree();
      west.agent.kill('SIGKILL');
      await cluster.lab.agents
        .at(-1)
        ?.stop()
        .catch(() => {});
      rmSync(west.agent.dataDir, { recursive: true, force: true });
      cpSync(copy, west.agent.dataDir, { recursive: true });
      await cluster.lab.startAgent('west');
      // At once: either it is told to wait or what it writes continues its old history.
      const early = await write(west, north);
      t.ok(early === 201 || early === 503, `${early}`);
      await agree();
      const expected = 11 + (early === 201 ? 1 : 0);
      for (const member of all) t.equal(await written(member), expected);
      const forks = await north.agent.request('GET', '/v1/events?type=origin.quarantined', {
        token: north.token,
      });
      t.notMatch(forks.text, /evt_/, 'no fork');
    },
  );
});
