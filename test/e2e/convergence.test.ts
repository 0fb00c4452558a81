/** Three real agents: discovery through a common peer, catching up after absence, the same digest everywhere. */
import t from 'tap';
import { createCluster, eventually, type Member } from './cluster.ts';

interface Peers {
  readonly peers: { readonly id: string; readonly state: string }[];
}

const digestOf = async (member: Member): Promise<string> =>
  (await member.agent.request('GET', '/v1/cluster/status', { token: member.token })).json<{
    projection_digest: string;
  }>().projection_digest;

t.test('three agents find each other and agree', { timeout: 180_000 }, async (t) => {
  const cluster = await createCluster({ agents: ['north', 'south', 'west'] });
  t.teardown(() => cluster.lab.destroy());
  const [north, south, west] = [cluster.member(0), cluster.member(1), cluster.member(2)];
  const all = [north, south, west];

  await eventually('everybody active everywhere', async () => {
    for (const member of all) {
      const { peers } = (
        await member.agent.request('GET', '/v1/peers', { token: member.token })
      ).json<Peers>();
      if (peers.length !== 3 || peers.some((peer) => peer.state !== 'active')) return false;
    }
    return true;
  });
  const clusters = await Promise.all(
    all.map(
      async ({ agent }) =>
        (await agent.request('GET', '/v1/cluster/identity')).json<{ cluster_id: string }>().cluster_id,
    ),
  );
  const oldest = all.map(({ identity }) => identity.cluster_id).sort()[0];
  t.same(clusters, [oldest, oldest, oldest], 'one cluster, under the oldest id');

  const foreign = await west.agent.request('GET', '/v1/peers', { token: north.token });
  t.equal(foreign.status, 200, "one member's token is good at another");

  const forwarded = await north.agent.request('GET', '/v1/cluster/status', {
    token: north.token,
    headers: { 'x-arctic-peer': west.identity.peer_id },
  });
  t.equal(forwarded.status, 200, forwarded.text);

  const again = await north.agent.request('POST', '/v1/peers', {
    token: north.token,
    body: { address: south.agent.address },
  });
  t.equal(again.status, 409);
  t.match(again.json(), { code: 'ALREADY_EXISTS', error: /peer already exists in cluster/ });

  const write = async (member: Member, name: string, target: Member): Promise<void> => {
    const answer = await member.agent.request('POST', '/v1/services', {
      token: member.token,
      body: { name, target_peer_id: target.identity.peer_id },
    });
    t.equal(answer.status, 201, answer.text);
  };

  await t.test('a peer that was cut off catches up', async () => {
    await cluster.lab.setInterface('west', 'wan0', 'down');
    for (let index = 0; index < 10; index += 1) await write(north, `while-away-${index}`, south);
    await write(west, 'written-alone', north);
    await cluster.lab.setInterface('west', 'wan0', 'up');
    await cluster.lab.exec('west', ['ip', 'route', 'replace', 'default', 'via', '10.91.22.254']);
    await eventually(
      'the same digest',
      async () => {
        const digests = new Set(await Promise.all(all.map(digestOf)));
        const services = (await south.agent.request('GET', '/v1/services', { token: south.token })).json<{
          services: unknown[];
        }>().services;
        return digests.size === 1 && services.length === 11;
      },
      40_000,
    );
  });

  await t.test('a peer that was restarted catches up', async () => {
    south.agent.kill();
    await south.agent.process.ended;
    await write(north, 'while-south-was-dead', west);
    await cluster.lab.startAgent('south');
    await eventually(
      'the same digest',
      async () => new Set(await Promise.all(all.map(digestOf))).size === 1,
      40_000,
    );
  });

  await t.test('a removed peer is out everywhere', async (t) => {
    const removed = await north.agent.request('DELETE', `/v1/peers/${west.identity.peer_id}`, {
      token: north.token,
    });
    t.equal(removed.status, 204, removed.text);
    await eventually('removed on south', async () => {
      const peer = await south.agent.request('GET', `/v1/peers/${west.identity.peer_id}`, {
        token: south.token,
      });
      return peer.json<{ state: string }>().state === 'removed';
    });
  });
});
