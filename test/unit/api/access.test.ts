import t from 'tap';
import { ACCESS } from '../../../src/api/access.ts';
import { covers, SCOPES } from '../../../src/commands/scopes.ts';
import { createHarness } from './harness.ts';

const pathOf = (url: string) =>
  url
    .replace('/services/:id', '/services/svc_01JD0000000000000000000000')
    .replace('/peers/:id', '/peers/peer_01JD0000000000000000000000')
    .replace('/events/:id', '/events/evt_01JD0000000000000000000000')
    .replace(':client_id', 'cli_01JD0000000000000000000000')
    .replace(':route_id', '1')
    .replace('/*', '/gossip');

t.test('every route asks for its scope and no other', async (t) => {
  const harness = createHarness(t);
  const { send, clock } = harness;
  const first = await harness.bootstrap();
  const tokens = new Map<string, string>();
  for (const scope of SCOPES)
    tokens.set(scope, await harness.token(first.client_id, first.client_secret, scope));

  for (const [row, access] of Object.entries(ACCESS)) {
    const [method = '', url = ''] = row.split(' ');
    const path = pathOf(url);
    // What would change this agent for the next row is only tried where it is refused.
    const lasting = row === 'DELETE /v1/peers/self' || row === 'POST /v1/cluster/credentials/rotate';
    const from = access.loopbackOpen === true ? { remoteAddress: '198.51.100.7' } : {};
    const bare = await send(method, path, from);
    if (access.scope === 'none' || access.scope === 'peer') {
      t.not(bare.body?.code, 'UNAUTHORIZED', `${row} is open`);
      continue;
    }
    t.equal(bare.status, 401, `${row} without a token`);
    for (const scope of SCOPES) {
      const allowed = access.scope === 'any' || covers([scope], access.scope);
      if (allowed && lasting) continue;
      const { status } = await send(method, path, { token: tokens.get(scope) });
      if (allowed) t.ok(status !== 401 && status !== 403, `${row} with ${scope}: ${status}`);
      else t.equal(status, 403, `${row} with ${scope}`);
    }
    clock.advance(1);
  }
});

t.test('the table and the OpenAPI document name the same routes', async (t) => {
  const { send } = createHarness(t);
  const document = (await send('GET', '/v1/openapi.json')).body;
  t.equal(document.openapi, '3.1.0');
  const documented = Object.entries(document.paths).flatMap(([path, methods]) =>
    Object.keys(methods as object).map(
      (method) => `${method.toUpperCase()} ${path.replaceAll(/\{(\w+)\}/g, ':$1')}`,
    ),
  );
  const hidden = ['GET /v1/openapi.json', 'GET /v1/peer/*', 'POST /v1/peer/*'];
  t.same(
    documented.toSorted(),
    Object.keys(ACCESS)
      .filter((row) => !hidden.includes(row))
      .toSorted(),
  );
  const create = document.paths['/v1/services'].post;
  t.same(create.security, [{ oauth2: ['services.write'] }, { recovery: [] }]);
  t.equal(create.requestBody.content['application/json'].schema.additionalProperties, false);
  t.ok(create.responses['422']);
});

t.test('metrics: open to this host, any scope from elsewhere', async (t) => {
  const harness = createHarness(t);
  const { send } = harness;
  const first = await harness.bootstrap();
  t.equal((await send('GET', '/metrics', { remoteAddress: '198.51.100.7' })).status, 401);
  const token = await harness.token(first.client_id, first.client_secret, 'credentials.read');
  t.equal((await send('GET', '/metrics', { token })).status, 200);
  for (const remoteAddress of ['127.0.0.1', '::1', '::ffff:127.0.0.1']) {
    const answer = await send('GET', '/metrics', { remoteAddress });
    t.equal(answer.status, 200, remoteAddress);
    t.match(answer.text, /arctic_members 1\n/);
    t.match(
      answer.text,
      /arctic_http_requests_total\{method="POST",route="\/v1\/bootstrap",status="201"\} 1/,
    );
  }
});
