/** Three real agents under partition, kill -9, and a database put back from an older copy: they end with the same digest. */
import { cpSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { createCluster, eventually, type Member } from './cluster.ts';
import { operator } from './operator.ts';

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

  await t.test('a partition in which both sides write, also the same field', async (t) => {
    const made = await north.agent.request('POST', '/v1/services', {
      token: north.token,
      body: { name: 'contested', target_peer_id: south.identity.peer_id },
    });
    t.equal(made.status, 201, made.text);
    const { id } = made.json<{ id: string }>();
    await agree();
    const rename = async (by: Member, name: string): Promise<void> => {
      const answer = await by.agent.request('PUT', `/v1/services/${id}`, { token: by.token, body: { name } });
      t.equal(answer.status, 200, answer.text);
    };
    await cluster.lab.setInterface('west', 'wan0', 'down');
    await rename(north, 'of-north');
    await rename(west, 'of-west');
    for (let i = 0; i < 3; i += 1) t.equal(await write(north, south), 201);
    for (let i = 0; i < 3; i += 1) t.equal(await write(west, north), 201);
    await cluster.lab.setInterface('west', 'wan0', 'up');
    await cluster.lab.exec('west', ['ip', 'route', 'replace', 'default', 'via', '10.91.22.254']);
    await agree();
    for (const member of all) {
      t.equal(await written(member), 7);
      t.match(
        (await member.agent.request('GET', `/v1/services/${id}`, { token: member.token })).json(),
        { name: 'of-west' },
        'the later write stands everywhere',
      );
    }

    // Both hosts say of the write that lost which one won and why: north, where it was first, and west, where it came too late.
    const renames = (
      await north.agent.request('GET', `/v1/events?type=service.updated&entity=${id}`, { token: north.token })
    ).json<{ events: { id: string; origin: string }[] }>().events;
    const lost = renames.find(({ origin }) => origin === north.identity.peer_id)?.id ?? '';
    const won = renames.find(({ origin }) => origin === west.identity.peer_id)?.id ?? '';
    for (const index of [0, 2]) {
      const arctic = operator(cluster, index);
      const [loser, winner] = await Promise.all([
        arctic('events', 'get', lost),
        arctic('events', 'get', won),
      ]);
      t.match(
        loser.stdout,
        new RegExp(`name lost to ${won} \\(written later\\): .*name=of-west`),
        loser.stderr,
      );
      t.match(winner.stdout, /name in force/, winner.stderr);
    }
    const onWest = operator(cluster, 2);
    const lines = await Promise.all([
      onWest('events', 'list', '--entity', id),
      onWest('events', 'tail', '--after', '0', '--type', 'service.updated'),
    ]);
    for (const { stdout, stderr } of lines) {
      t.match(
        stdout,
        /name=of-north \(name lost to event \d+, service of-west updated: name=of-west: written later\)/,
        stderr,
      );
      t.notMatch(stdout, /name=of-west \(.*lost/, 'and nothing of the one that won');
    }
    const onNorth = operator(cluster, 0);
    for (const args of [
      ['list', '--entity', id],
      ['tail', '--after', '0', '--type', 'service.updated'],
    ]) {
      const { stdout, stderr } = await onNorth('events', ...args);
      t.match(
        stdout,
        /name=of-north \(name overridden by event \d+, service of-west updated: name=of-west\)/,
        `where the loser was first, its line names the winner: ${stderr}`,
      );
      t.match(
        stdout,
        /name=of-west \(overrides name of event \d+, service of-west updated: name=of-north\)/,
        'and the line of the winner, which a follower sees arrive, names the loser',
      );
    }
  });

  await t.test('kill -9 and a restart', async (t) => {
    t.equal(await write(south, north), 201);
    south.agent.kill();
    await south.agent.process.ended;
    t.equal(await write(north, west), 201);
    await cluster.lab.startAgent('south');
    await agree();
    for (const member of all) t.equal(await written(member), 9);
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
      const expected = 12 + (early === 201 ? 1 : 0);
      for (const member of all) t.equal(await written(member), expected);
      const forks = await north.agent.request('GET', '/v1/events?type=origin.quarantined', {
        token: north.token,
      });
      t.notMatch(forks.text, /evt_/, 'no fork');
    },
  );
});
