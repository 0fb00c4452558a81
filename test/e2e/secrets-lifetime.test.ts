/**
 * How long secrets live on two real agents whose clocks the test moves: tokens until their credential is revoked, a rotated
 * secret for a day, the keys between the agents for an hour.
 */
import t from 'tap';
import { createMovableClock, type MovableClock } from '../../ops/lab/movable-clock.ts';
import { createCluster, eventually, type Member, obtainToken } from './cluster.ts';

const HOUR = 3_600_000;

t.test('tokens, secrets and session keys have their time', { timeout: 200_000 }, async (t) => {
  const clocks: MovableClock[] = [];
  const cluster = await createCluster({
    env: { HEARTBEAT_SECONDS: '1', LOG_LEVEL: 'debug' },
    async envOf(host) {
      const clock = await createMovableClock(host.directory);
      clocks.push(clock);
      return clock.env;
    },
  });
  t.teardown(() => cluster.lab.destroy());
  const [entry, exit] = [cluster.member(0), cluster.member(1)];
  const { client_id: shared, client_secret: firstSecret } = entry.identity;
  let admin = entry.token;
  const pass = async (ms: number): Promise<void> => {
    for (const clock of clocks) clock.pass(ms);
    await eventually('both take requests', async () => {
      admin = await obtainToken(entry.agent, shared, secret);
      return (await exit.agent.request('GET', '/v1/peers', { token: admin })).status === 200;
    });
  };
  let secret = firstSecret;
  const call = (of: Member, method: string, path: string, token: string, body?: unknown) =>
    of.agent.request(method, path, { token, ...(body === undefined ? {} : { body }) });
  const headOf = async (of: Member) =>
    (await call(of, 'GET', '/v1/cluster/status', admin)).json<{ log_head: number }>().log_head;

  await t.test('a revocation kills the tokens that are out, on every member', async (t) => {
    const created = await call(entry, 'POST', '/v1/credentials', admin, { scopes: ['services.read'] });
    t.equal(created.status, 201, created.text);
    const { client_id, client_secret } = created.json<{ client_id: string; client_secret: string }>();
    const tokens: string[] = [];
    for (const { agent } of cluster.members)
      tokens.push(
        await eventually('a token of each member', () => obtainToken(agent, client_id, client_secret)),
      );
    for (const member of cluster.members)
      for (const token of tokens) {
        t.equal((await call(member, 'GET', '/v1/services', token)).status, 200);
        t.equal((await call(member, 'POST', '/v1/services', token, {})).status, 403, 'and no wider');
      }
    t.equal((await call(entry, 'DELETE', `/v1/credentials/${client_id}`, admin)).status, 204);
    for (const token of tokens) t.equal((await call(entry, 'GET', '/v1/services', token)).status, 401);
    await eventually('the other member has the tombstone', async () =>
      (await Promise.all(tokens.map((token) => call(exit, 'GET', '/v1/services', token)))).every(
        ({ status }) => status === 401,
      ),
    );
    for (const { agent } of cluster.members)
      await t.rejects(obtainToken(agent, client_id, client_secret), /401/, 'no new token either');
    t.notMatch((await call(exit, 'GET', '/v1/credentials', admin)).text, client_id);
  });

  await t.test('use is noted without an event a request', async (t) => {
    const usedAt = async () =>
      (await call(entry, 'GET', '/v1/credentials', admin))
        .json<{ credentials: { client_id: string; last_used_at: string }[] }>()
        .credentials.find(({ client_id }) => client_id === shared)?.last_used_at ?? '';
    const [head, before] = [await headOf(entry), await usedAt()];
    for (let i = 0; i < 40; i += 1) t.equal((await call(entry, 'GET', '/v1/services', admin)).status, 200);
    await obtainToken(entry.agent, shared, secret);
    t.equal(await headOf(entry), head, 'nothing was appended');
    t.ok((await usedAt()) > before, 'last_used_at has moved');
  });

  await t.test('a rotated secret is good for another day, on both', async (t) => {
    const rotated = await call(entry, 'POST', '/v1/cluster/credentials/rotate', admin);
    t.equal(rotated.status, 200, rotated.text);
    secret = rotated.json<{ client_secret: string }>().client_secret;
    await eventually('the new secret counts on the other', () => obtainToken(exit.agent, shared, secret));
    await pass(23 * HOUR);
    for (const { agent } of cluster.members) t.ok(await obtainToken(agent, shared, firstSecret));
    await pass(1.1 * HOUR);
    for (const { agent } of cluster.members) {
      await t.rejects(obtainToken(agent, shared, firstSecret), /401/, 'the day is over');
      t.ok(await obtainToken(agent, shared, secret));
    }
  });

  await t.test('session keys renew by the hour while changes go on', async (t) => {
    const handshakes = () =>
      cluster.members
        .map(
          ({ agent }) => agent.process.output().match(/path=\/v1\/peer\/handshake status=200/g)?.length ?? 0,
        )
        .reduce((sum, one) => sum + one, 0);
    const names: string[] = [];
    const write = async (by: Member, to: Member): Promise<void> => {
      const name = `renewal-${names.length}`;
      names.push(name);
      const answer = await call(by, 'POST', '/v1/services', admin, {
        name,
        target_peer_id: to.identity.peer_id,
      });
      t.equal(answer.status, 201, answer.text);
    };
    await eventually('at rest', async () => {
      const { peers } = (await call(entry, 'GET', '/v1/cluster/status', admin)).json<{
        peers: { lag: number; state: string }[];
      }>();
      return peers.every(({ lag, state }) => lag === 0 && state === 'active');
    });
    const before = handshakes();
    const noticed = async (of: Member) =>
      (await call(of, 'GET', '/v1/events?type=peer.unreachable&limit=500', admin)).text;
    const unreachable = [await noticed(entry), await noticed(exit)];
    for (let round = 0; round < 3; round += 1) {
      for (let i = 0; i < 5; i += 1) await write(entry, exit);
      // The younger key waits a minute longer for the other side, so one of them is past its hour in any case.
      await pass(HOUR + 65_000);
      for (let i = 0; i < 5; i += 1) await write(exit, entry);
    }
    await eventually('new keys', async () => handshakes() >= before + 6);
    await eventually('every change on both', async () => {
      for (const member of cluster.members) {
        const { services } = (await call(member, 'GET', '/v1/services?limit=500', admin)).json<{
          services: { name: string }[];
        }>();
        const held = new Set(services.map(({ name }) => name));
        if (names.some((name) => !held.has(name))) return false;
      }
      return true;
    });
    t.same([await noticed(entry), await noticed(exit)], unreachable, 'nobody was given up');
    for (const { agent } of cluster.members)
      t.notMatch(agent.process.output(), /events of a peer were refused|does not verify/);
  });
});
