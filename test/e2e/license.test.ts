/** Each state of the license on two real agents whose clocks the test moves: what is refused with which code, and what goes on. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { createMovableClock, type MovableClock } from '../../ops/lab/movable-clock.ts';
import { createCluster, createIssuer, eventually, obtainToken } from './cluster.ts';

const DAY = 86_400_000;

t.test('a license from its first day to its replacement', { timeout: 200_000 }, async (t) => {
  const clocks: MovableClock[] = [];
  const cluster = await createCluster({
    env: { HEARTBEAT_SECONDS: '1' },
    license: { days: 90, maxNodes: 2, maxServices: 2 },
    async envOf(host) {
      const clock = await createMovableClock(host.directory);
      clocks.push(clock);
      return clock.env;
    },
  });
  t.teardown(() => cluster.lab.destroy());
  const [entry, exit] = [cluster.member(0), cluster.member(1)];
  let days = 0;
  let token = entry.token;
  /** Lets both hosts grow older; a token of before has expired then. */
  const pass = async (to: number): Promise<void> => {
    for (const clock of clocks) clock.pass((to - days) * DAY);
    days = to;
    await eventually('the token endpoint goes on', async () => {
      token = await obtainToken(entry.agent, entry.identity.client_id, entry.identity.client_secret);
      return true;
    });
  };
  const call = (method: string, path: string, body?: unknown, of = entry) =>
    of.agent.request(method, path, { token, ...(body === undefined ? {} : { body }) });
  const serviceBody = (name: string) => ({ name, target_peer_id: exit.identity.peer_id });
  const inState = (state: string) =>
    eventually(`both are ${state}`, async () => {
      for (const { agent } of cluster.members) {
        const license = (await agent.request('GET', '/v1/license', { token })).json<{ state: string }>();
        if (license.state !== state) return false;
        const { text } = await agent.request('GET', '/v1/events?type=license.state_changed&limit=500', {
          headers: { 'x-arctic-recovery': recoveryOf(agent.configDir) },
        });
        if (!text.includes(`"to":"${state}"`)) return false;
      }
      return true;
    });
  const recoveryOf = (configDir: string) => readFileSync(join(configDir, 'recovery.token'), 'utf8').trim();
  const redirected = async (): Promise<boolean> => {
    const { stdout } = await cluster.lab.exec('entry', ['nft', 'list', 'table', 'inet', 'arctic'], {
      check: false,
    });
    return stdout.includes('10.91.3.0');
  };

  const first = await call('POST', '/v1/services', serviceBody('first'));
  t.equal(first.status, 201, first.text);
  const service = first.json<{ id: string }>().id;
  const routes = `/v1/services/${service}/routes`;
  t.equal((await call('POST', routes, { routes: [{ priority: 1, dest_cidr: '10.91.3.0/24' }] })).status, 201);
  await eventually('the rule is in the kernel', redirected);

  await t.test('valid: the caps hold', async (t) => {
    await inState('valid');
    t.equal((await call('POST', '/v1/services', serviceBody('second'))).status, 201);
    t.match((await call('POST', '/v1/services', serviceBody('third'))).json(), {
      code: 'SERVICE_LIMIT_EXCEEDED',
    });
    t.match((await call('POST', '/v1/peers', { address: '192.0.2.1:8080' })).json(), {
      code: 'NODE_LIMIT_EXCEEDED',
      error: 'handshake failed: node limit exceeded',
    });
  });

  await t.test('warning: 30 days before the end', async (t) => {
    await pass(61);
    await inState('warning');
    t.match((await call('GET', '/v1/cluster/status')).text, /"license-warning"/);
    t.equal((await call('PUT', `/v1/services/${service}`, { name: 'warned' })).status, 200);
  });

  await t.test('grace: expired, and everything works', async (t) => {
    await pass(91);
    await inState('grace');
    t.equal((await call('PUT', `/v1/services/${service}`, { name: 'graced' })).status, 200);
    t.ok(await redirected());
  });

  await t.test('read only: no writes, but traffic', async (t) => {
    await pass(105);
    await inState('read_only');
    const writes: readonly [string, string, unknown?][] = [
      ['POST', '/v1/services', serviceBody('late')],
      ['PUT', `/v1/services/${service}`, { name: 'late' }],
      ['DELETE', `/v1/services/${service}`],
      ['POST', routes, { routes: [{ priority: 2, dest_cidr: '10.99.0.0/24' }] }],
      ['DELETE', `${routes}/1`],
      ['POST', '/v1/peers', { address: '192.0.2.1:8080' }],
      ['PUT', `/v1/peers/${exit.identity.peer_id}`, { name: 'late' }],
      ['DELETE', `/v1/peers/${exit.identity.peer_id}`],
      ['DELETE', '/v1/peers/self'],
      ['POST', '/v1/credentials', {}],
      ['DELETE', `/v1/credentials/${exit.identity.client_id}`],
      ['POST', '/v1/cluster/credentials/rotate'],
      ['POST', '/v1/cluster/lock', {}],
      ['POST', '/v1/cluster/init', { force: true }],
    ];
    for (const [method, path, body] of writes) {
      const answer = await call(method, path, body);
      t.equal(answer.status, 422, `${method} ${path}: ${answer.text}`);
      t.match(answer.json(), { code: 'LICENSE_READ_ONLY' });
    }
    for (const path of ['/v1/services', '/v1/peers', '/v1/cluster/status', '/v1/events', '/v1/drift'])
      t.equal((await call('GET', path)).status, 200, path);
    t.ok(await redirected(), 'the data plane runs');
    t.equal((await entry.agent.request('GET', '/readyz')).status, 200);
  });

  await t.test('suspended: services stop; install, health and recovery stay open', async (t) => {
    await pass(135);
    await inState('suspended');
    await eventually('the rules are gone', async () => !(await redirected()));
    for (const [method, path, body] of [
      ['GET', '/v1/services'],
      ['POST', '/v1/services', serviceBody('late')],
      ['GET', '/v1/peers'],
      ['GET', '/v1/cluster/status'],
      ['POST', '/v1/cluster/sync', {}],
    ] as const) {
      const answer = await call(method, path, body);
      t.equal(answer.status, 422, `${method} ${path}: ${answer.text}`);
      t.match(answer.json(), { code: 'LICENSE_SUSPENDED', error: /arctic license install FILE/ });
    }
    t.equal((await entry.agent.request('GET', '/livez')).status, 200);
    const ready = await entry.agent.request('GET', '/readyz');
    t.equal(ready.status, 503);
    t.match(ready.text, /suspended/);
    t.equal((await entry.agent.request('GET', '/metrics')).status, 200);
    const recovery = { 'x-arctic-recovery': recoveryOf(entry.agent.configDir) };
    t.equal((await entry.agent.request('GET', '/v1/services', { headers: recovery })).status, 200);
    t.equal((await entry.agent.request('GET', '/v1/cluster/status', { headers: recovery })).status, 200);

    await entry.agent.stop();
    await cluster.lab.startAgent('entry', { env: { HEARTBEAT_SECONDS: '1', ...clocks[0]?.env } });
    t.notOk(await redirected(), 'a restart does not bring the services back');
  });

  await t.test('only a good license replaces it, and then all is as before', async (t) => {
    const good = { days: 300, maxNodes: 3, maxServices: 3 };
    const genuine = cluster.issuer.issue(good) as Record<string, unknown>;
    const stranger = createIssuer(join(cluster.lab.directory, 'stranger'));
    const refused: readonly [string, unknown, string][] = [
      ['of another customer', cluster.issuer.issue({ ...good, customer: 'cust_other' }), 'LICENSE_MISMATCH'],
      ['changed', { ...genuine, max_nodes: 1_000 }, 'LICENSE_INVALID'],
      ['of an unknown issuer', stranger.issue(good), 'LICENSE_INVALID'],
      ['expired', cluster.issuer.issue({ ...good, days: 100 }), 'LICENSE_EXPIRED'],
    ];
    await eventually(
      'the restarted agent answers',
      async () => (await call('GET', '/v1/license')).status === 200,
    );
    for (const [what, license, code] of refused) {
      const answer = await call('PUT', '/v1/license', license);
      t.equal(answer.status, 422, `${what}: ${answer.text}`);
      t.match(answer.json(), { code }, what);
    }
    const replaced = await call('PUT', '/v1/license', genuine);
    t.equal(replaced.status, 200, replaced.text);
    await inState('valid');
    await eventually('the rules are back', redirected);
    const third = await call('POST', '/v1/services', serviceBody('third'));
    t.equal(third.status, 201, `the wider caps count: ${third.text}`);
    await eventually('and the other agent has it', async () =>
      (await call('GET', '/v1/services', undefined, exit)).text.includes('"third"'),
    );
  });

  await t.test('a stored license that does not verify stops the start', async (t) => {
    await exit.agent.stop();
    createIssuer(join(cluster.lab.directory, 'usurper')).trustOn(exit.agent.configDir);
    const agent = await cluster.lab.startAgent('exit', { wait: false, env: { ...clocks[1]?.env } });
    const { code } = await agent.process.ended;
    t.equal(code, 3, agent.process.output());
    t.match(agent.process.output(), /Error: .*license/i);
  });
});
