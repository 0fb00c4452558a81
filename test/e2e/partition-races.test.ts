/**
 * What four real agents make of joins that race past the node cap, of clocks that disagree, and of a removal that the removed
 * one has not heard of. Every host has a clock that the test moves.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { createMovableClock, type MovableClock } from '../../ops/lab/movable-clock.ts';
import { createCluster, eventually, type Member, obtainToken } from './cluster.ts';
import { heal, split } from './split.ts';

interface PeerRow {
  readonly id: string;
  readonly name: string;
  readonly state: string;
  readonly membership: string;
  readonly reason: string | null;
  readonly clock_skew_ms: number | null;
}

interface Status {
  readonly cluster_id: string;
  readonly projection_digest: string;
  readonly conditions: readonly { readonly code: string; readonly text: string }[];
  readonly peers: readonly PeerRow[];
}

t.test('races, clocks and removals', { timeout: 280_000 }, async (t) => {
  const clocks = new Map<string, MovableClock>();
  const cluster = await createCluster({
    agents: ['north', 'south', 'west', 'east'],
    join: false,
    env: { HEARTBEAT_SECONDS: '1' },
    license: { maxNodes: 3 },
    async envOf(host) {
      const clock = await createMovableClock(host.directory);
      clocks.set(host.name, clock);
      return clock.env;
    },
  });
  t.teardown(() => cluster.lab.destroy());
  const [north, south, west, east] = [0, 1, 2, 3].map((index) => cluster.member(index)) as [
    Member,
    Member,
    Member,
    Member,
  ];
  const clockOf = (member: Member): MovableClock => {
    const clock = clocks.get(member.agent.host.name);
    if (clock === undefined) throw new Error('every host has a clock');
    return clock;
  };
  const call = (by: Member, method: string, path: string, body?: unknown) =>
    by.agent.request(method, path, { token: by.token, ...(body === undefined ? {} : { body }) });
  const add = (by: Member, other: Member) => call(by, 'POST', '/v1/peers', { address: other.agent.address });
  const status = async (of: Member): Promise<Status> =>
    (await call(of, 'GET', '/v1/cluster/status')).json<Status>();
  const rowOf = async (by: Member, of: Member): Promise<PeerRow | undefined> =>
    (await status(by)).peers.find(({ id }) => id === of.identity.peer_id);
  const serviceNames = async (by: Member): Promise<readonly string[]> =>
    (await call(by, 'GET', '/v1/services'))
      .json<{ services: { name: string }[] }>()
      .services.map(({ name }) => name);
  const agree = (members: readonly Member[]) =>
    eventually(
      `the same digest on ${members.map(({ agent }) => agent.host.name)}`,
      async () => {
        await Promise.all(members.map((member) => call(member, 'POST', '/v1/cluster/sync')));
        return (
          new Set((await Promise.all(members.map(status))).map((one) => one.projection_digest)).size === 1
        );
      },
      60_000,
    );

  await t.test('two joins race past the node cap: the later one by clock is set aside', async (t) => {
    const joined = await add(north, south);
    t.equal(joined.status, 201, joined.text);
    // South's side joins last, but its clock says that it joined first.
    clockOf(south).shiftWall(-30_000);
    clockOf(east).shiftWall(-30_000);
    await split(cluster.lab, ['north', 'west'], ['south', 'east']);
    t.equal((await add(north, west)).status, 201);
    t.equal((await add(south, east)).status, 201);
    const over = await add(south, west);
    t.equal(over.status, 422, over.text);
    t.match(over.json(), { code: 'NODE_LIMIT_EXCEEDED', error: 'handshake failed: node limit exceeded' });
    await heal(cluster.lab);

    const all = [north, south, west, east];
    await agree(all);
    for (const member of all) {
      const now = await status(member);
      t.equal(now.cluster_id, north.identity.cluster_id, 'one cluster under the oldest id');
      const aside = now.peers.filter(({ membership }) => membership === 'set_aside');
      t.same(
        aside.map(({ id }) => id),
        [west.identity.peer_id],
        `${member.agent.host.name} sets the same peer aside`,
      );
      t.match(aside[0], {
        state: 'pending',
        reason: /^set aside: it joined last, past the 3 nodes of the license/,
      });
      t.ok(
        now.conditions.some(({ code, text }) => code === 'peer-set-aside' && /set aside/.test(text)),
        'cluster status says so',
      );
      t.match(
        member.agent.process.output(),
        /level=warn .*peer is set aside: it joined last.*name=west/,
        'and the log',
      );
    }
    const listed = (await call(north, 'GET', '/v1/peers')).json<{ peers: PeerRow[] }>().peers;
    t.match(
      listed.find(({ name }) => name === 'west'),
      { state: 'pending', reason: /^set aside/ },
    );

    const removed = await call(north, 'DELETE', `/v1/peers/${east.identity.peer_id}`);
    t.equal(removed.status, 204, removed.text);
    const left = [north, south, west];
    await agree(left);
    await eventually('a free node is taken by whoever waits for it', async () => {
      const states = await Promise.all(
        left.flatMap((by) => left.map(async (of) => (await rowOf(by, of))?.state)),
      );
      return states.every((state) => state === 'active');
    });
    t.match(north.agent.process.output(), /peer has a node of the license again.*name=west/);
  });

  await t.test('clocks more than 60 s apart are reported on both sides', async (t) => {
    clockOf(south).shiftWall(-95_000);
    for (const [by, of, sign] of [
      [north, south, -1],
      [south, north, 1],
    ] as const) {
      await eventually(`${by.agent.host.name} notices`, async () => {
        const now = await status(by);
        const skew = now.peers.find(({ id }) => id === of.identity.peer_id)?.clock_skew_ms ?? 0;
        return sign * skew > 60_000 && now.conditions.some(({ code }) => code === 'peer-clock-skew');
      });
      const events = await call(by, 'GET', '/v1/events?type=clock.skew_detected');
      t.match(events.text, of.identity.peer_id, 'as a local event');
      t.match(
        by.agent.process.output(),
        /level=warn .*clocks differ by more than 60 s.*chrony/,
        'and in the log',
      );
    }
    const made = await call(north, 'POST', '/v1/services', {
      name: 'by-most',
      target_peer_id: west.identity.peer_id,
    });
    t.equal(made.status, 201, `two of three agree, and go on: ${made.text}`);
    clockOf(south).shiftWall(0);
    await eventually('and it ends with the skew', async () =>
      (await Promise.all([north, south].map(status))).every(({ conditions }) =>
        conditions.every(({ code }) => code !== 'peer-clock-skew'),
      ),
    );
  });

  await t.test('a host that starts with a clock far ahead changes nothing until it is set', async (t) => {
    await south.agent.stop();
    clockOf(south).shiftWall(86_400_000);
    const env = { HEARTBEAT_SECONDS: '1', ...clockOf(south).env };
    const agent = await cluster.lab.startAgent('south', { env });
    const token = readFileSync(join(agent.configDir, 'recovery.token'), 'utf8').trim();
    const headers = { 'x-arctic-recovery': token };
    const body = { name: 'in-time', target_peer_id: north.identity.peer_id };
    const create = () => agent.request('POST', '/v1/services', { headers, body });
    let answer = await create();
    t.equal(answer.status, 503, answer.text);
    await eventually('it hears the others', async () => {
      answer = await create();
      return answer.text.includes('clock');
    });
    t.equal(answer.status, 503, answer.text);
    t.match(answer.json(), {
      code: 'UNAVAILABLE',
      error: /its clock is 864\d\d s ahead of that of .*timedatectl/,
    });
    t.equal((await agent.request('GET', '/v1/services', { headers })).status, 200, 'it can be looked at');
    clockOf(south).shiftWall(0);
    await eventually('it may change things again', async () => {
      answer = await create();
      return answer.status === 201;
    });
    await eventually('and what it changed is not held back', async () =>
      (await Promise.all([north, west].map(serviceNames))).every((names) => names.includes('in-time')),
    );
  });

  await t.test(
    'a removal converges; what was signed before it stands; nobody comes back in silence',
    async (t) => {
      await split(cluster.lab, ['north'], ['south', 'west']);
      const write = (name: string) =>
        call(west, 'POST', '/v1/services', { name, target_peer_id: south.identity.peer_id });
      t.equal((await write('before')).status, 201);
      await eventually('south has it', async () => (await serviceNames(south)).includes('before'));
      t.equal((await call(north, 'DELETE', `/v1/peers/${west.identity.peer_id}`)).status, 204);
      t.notOk((await serviceNames(north)).includes('before'), 'north removes west without having seen it');
      await heal(cluster.lab);
      await agree([north, south]);
      for (const member of [north, south]) {
        t.equal((await rowOf(member, west))?.state, 'removed');
        t.ok((await serviceNames(member)).includes('before'), 'what it signed before stands');
      }
      await eventually('west is told', async () => (await rowOf(west, west))?.state === 'removed');
      const late = await write('after');
      t.equal(late.status, 403, late.text);
      t.match(late.json(), { code: 'FORBIDDEN', error: /was removed from cluster.*arctic peers add/s });
      t.ok((await status(west)).conditions.some(({ code }) => code === 'left-cluster'));

      await west.agent.stop();
      await cluster.lab.startAgent('west', { env: { HEARTBEAT_SECONDS: '1', ...clockOf(west).env } });
      const again = await add(west, north);
      t.equal(again.status, 403, 'its own operator cannot bring it back');
      await Promise.all([north, south].map((member) => call(member, 'POST', '/v1/cluster/sync')));
      for (const member of [north, south]) t.equal((await rowOf(member, west))?.state, 'removed');

      const readmitted = await add(north, west);
      t.equal(readmitted.status, 201, readmitted.text);
      await agree([north, south, west]);
      t.equal(
        (await obtainToken(west.agent, west.identity.client_id, west.identity.client_secret)).length > 0,
        true,
      );
      t.equal((await write('back')).status, 201);
      await eventually('and what it writes travels', async () =>
        (await serviceNames(north)).includes('back'),
      );
    },
  );
});
