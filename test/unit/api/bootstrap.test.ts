import { readFileSync } from 'node:fs';
import t from 'tap';
import { Compile } from 'typebox/compile';
import { createIds } from '../../../events/ids.ts';
import { ClusterIdentity } from '../../../src/api/schemas/cluster.ts';
import { BootstrapAnswer, License } from '../../../src/api/schemas/license.ts';
import { createLicenseRoot, issueLicense } from '../../../src/identity/license.ts';
import { random } from '../local-peer.ts';
import { createHarness } from './harness.ts';

const DAY = 86_400_000;

t.test('an agent without a cluster answers only what it should', async (t) => {
  const { send } = createHarness(t);
  t.equal((await send('GET', '/livez')).status, 200);
  const ready = await send('GET', '/readyz');
  t.equal(ready.status, 503);
  t.match(ready.body.checks, [
    { name: 'projections', ok: true },
    { name: 'bootstrap', ok: false },
  ]);
  t.equal((await send('GET', '/metrics', { remoteAddress: '127.0.0.1' })).status, 200);
  t.equal((await send('GET', '/v1/openapi.json')).status, 200);
  for (const [method, path] of [
    ['GET', '/v1/cluster/identity'],
    ['POST', '/v1/oauth/token'],
    ['GET', '/v1/peers'],
    ['GET', '/v1/license'],
    ['POST', '/v1/services'],
    ['POST', '/v1/peer/handshake'],
    ['GET', '/.well-known/jwks.json'],
    ['GET', '/metrics'],
  ] as const) {
    const answer = await send(method, path, { remoteAddress: '198.51.100.7' });
    t.equal(answer.status, 412, `${method} ${path}`);
    t.equal(answer.body.code, 'NOT_BOOTSTRAPPED');
  }
});

t.test('bootstrap with a verified license makes a cluster, once', async (t) => {
  const { send, license, log, identity, admin: _, ...harness } = createHarness(t);
  const answer = await send('POST', '/v1/bootstrap', {
    body: { license: license({ nodes: 3, services: 4 }), name: 'entry', description: 'test' },
  });
  t.equal(answer.status, 201);
  t.ok(Compile(BootstrapAnswer).Check(answer.body), 'has the documented shape');
  t.match(answer.body, { peer_id: identity.peerId, max_nodes: 3, max_services: 4 });
  t.same(
    log.read({ stream: 'config' }).map((event) => event.type),
    ['cluster.created', 'license.installed', 'peer.registered', 'credential.created'],
  );
  t.notMatch(JSON.stringify(log.read({})), answer.body.client_secret, 'the secret is not in the log');
  t.notMatch(harness.lines.join(''), answer.body.client_secret, 'nor in the log lines');

  const head = log.head;
  const again = await send('POST', '/v1/bootstrap', { body: { license: license() } });
  t.equal(again.status, 409);
  t.equal(again.body.code, 'ALREADY_BOOTSTRAPPED');
  t.equal(log.head, head);

  const shown = await send('GET', '/v1/cluster/identity');
  t.ok(Compile(ClusterIdentity).Check(shown.body));
  t.match(shown.body, { peer_id: identity.peerId, cluster_id: answer.body.cluster_id, version: 'v1.4.0' });
  t.equal((await send('GET', '/readyz')).status, 200);
});

t.test('a license that does not verify bootstraps nothing', async (t) => {
  const { send, license, log, clock } = createHarness(t);
  const ids = createIds({ clock, random });
  const terms = {
    customerId: 'cust_test',
    maxNodes: 1,
    maxServices: 1,
    features: [],
    expiresAt: clock.now() + DAY,
  };
  const foreign = issueLicense(createLicenseRoot(random), terms, { clock, ids });
  const cases: readonly [string, unknown, string][] = [
    ['another issuer', foreign, 'LICENSE_INVALID'],
    ['a raised cap', { ...license(), max_nodes: 1_000 }, 'LICENSE_INVALID'],
    ['an unknown field', { ...license(), extra: 1 }, 'LICENSE_INVALID'],
    ['a missing field', { license_id: 'lic_x' }, 'LICENSE_INVALID'],
    ['a wrong signature', { ...license(), signature: `${'A'.repeat(86)}==` }, 'LICENSE_INVALID'],
    ['no object', 'license', 'INVALID_REQUEST'],
  ];
  for (const [name, document, code] of cases) {
    const answer = await send('POST', '/v1/bootstrap', { body: { license: document } });
    t.equal(answer.body.code, code, name);
  }
  const expired = license({ days: 1 });
  clock.advance(2 * DAY);
  const answer = await send('POST', '/v1/bootstrap', { body: { license: expired } });
  t.equal(answer.status, 422);
  t.equal(answer.body.code, 'LICENSE_EXPIRED');
  t.equal(log.head, 0);
});

t.test('the license is shown and replaced', async (t) => {
  const harness = createHarness(t);
  const { send, license, clock } = harness;
  const token = await harness.admin();
  const shown = await send('GET', '/v1/license', { token });
  t.ok(Compile(License).Check(shown.body));
  t.match(shown.body, { state: 'valid', nodes: 1, services: 0 });
  t.equal((await send('GET', '/v1/license')).status, 401);

  const mismatch = await send('PUT', '/v1/license', { token, body: license({ customer: 'cust_other' }) });
  t.match(mismatch, { status: 422, body: { code: 'LICENSE_MISMATCH' } });
  const tampered = await send('PUT', '/v1/license', { token, body: { ...license(), max_nodes: 99 } });
  t.match(tampered, { status: 422, body: { code: 'LICENSE_INVALID' } });
  const { state: _state, state_changes_at: _at, nodes: _nodes, services: _services, ...current } = shown.body;
  const head = harness.log.head;
  t.equal(
    (await send('PUT', '/v1/license', { token, body: current })).status,
    200,
    'the same again is no change',
  );
  t.equal(harness.log.head, head);
  clock.advance(1_000);
  const replaced = await send('PUT', '/v1/license', { token, body: license({ nodes: 50 }) });
  t.match(replaced, { status: 200, body: { max_nodes: 50 } });
  const older = await send('PUT', '/v1/license', { token, body: current });
  t.match(older, { status: 422, body: { code: 'LICENSE_INVALID' } });
});

t.test('each state of the license refuses what it should', async (t) => {
  const harness = createHarness(t);
  const { send, clock, license } = harness;
  const first = await harness.bootstrap({ days: 100 });
  const token = () => harness.token(first.client_id, first.client_secret);
  const target = harness.admit('exit');
  const create = async () =>
    send('POST', '/v1/services', { token: await token(), body: { target_peer_id: target } });
  const state = async () => (await send('GET', '/v1/license', { token: await token() })).body.state;

  clock.advance(80 * DAY);
  t.equal(await state(), 'warning');
  clock.advance(25 * DAY);
  t.equal(await state(), 'grace');
  t.equal((await create()).status, 201, 'grace works fully');
  clock.advance(12 * DAY);
  t.equal(await state(), 'read_only');
  t.match(await create(), { status: 422, body: { code: 'LICENSE_READ_ONLY' } });
  t.equal((await send('GET', '/v1/services', { token: await token() })).status, 200);
  clock.advance(30 * DAY);
  t.equal(await state(), 'suspended');
  t.match(await create(), { status: 422, body: { code: 'LICENSE_SUSPENDED' } });
  t.match(await send('GET', '/v1/services', { token: await token() }), {
    body: { code: 'LICENSE_SUSPENDED' },
  });
  t.equal((await send('GET', '/livez')).status, 200);
  t.equal((await send('GET', '/readyz')).status, 503);
  const recovery = readFileSync(harness.recoveryFile, 'utf8').trim();
  const byRecovery = await send('GET', '/v1/services', { headers: { 'x-arctic-recovery': recovery } });
  t.equal(byRecovery.status, 200, 'recovery stays open');
  t.equal((await send('PUT', '/v1/license', { token: await token(), body: license() })).status, 200);
  t.equal(await state(), 'valid');
  t.equal((await create()).status, 201);
});
