import { readFileSync } from 'node:fs';
import t from 'tap';
import { Compile } from 'typebox/compile';
import { ArcticError } from '../../../events/errors.ts';
import { ClusterStatus } from '../../../src/api/schemas/cluster.ts';
import { listOf } from '../../../src/api/schemas/fields.ts';
import { Peer } from '../../../src/api/schemas/peers.ts';
import { createHarness } from './harness.ts';

t.test('peers: listed, added, changed, deleted', async (t) => {
  const harness = createHarness(t);
  const { send, identity, log } = harness;
  const token = await harness.admin();
  const added = await send('POST', '/v1/peers', {
    token,
    body: { address: 'exit.example:8080', name: 'exit' },
  });
  t.equal(added.status, 201);
  t.ok(Compile(Peer).Check(added.body));
  const { id } = added.body;
  const listed = await send('GET', '/v1/peers', { token });
  t.ok(Compile(listOf('peers', Peer)).Check(listed.body));
  t.match(listed.body.peers, [
    { id: identity.peerId, name: 'first', is_local: true, state: 'active', address: '192.0.2.1:8080' },
    { id, name: 'exit', is_local: false },
  ]);
  const again = await send('POST', '/v1/peers', { token, body: { address: 'exit.example:8080' } });
  t.match(again, { status: 409, body: { code: 'ALREADY_EXISTS', error: 'peer already exists in cluster' } });
  t.equal((await send('POST', '/v1/peers', { token, body: { address: 'nonsense' } })).status, 400);

  const renamed = await send('PUT', `/v1/peers/${id}`, { token, body: { name: 'edge' } });
  t.match(renamed, { status: 200, body: { name: 'edge' } });
  const head = log.head;
  t.equal((await send('PUT', `/v1/peers/${id}`, { token, body: { name: 'edge' } })).status, 200);
  t.equal(log.head, head, 'the same name appends nothing');
  t.match(await send('PUT', `/v1/peers/${id}`, { token, body: { name: 'first' } }), {
    body: { code: 'ALREADY_EXISTS' },
  });
  t.match(await send('PUT', `/v1/peers/${id}`, { token, body: {} }), { status: 400 });

  t.match(await send('DELETE', `/v1/peers/${identity.peerId}`, { token }), {
    status: 400,
    body: { code: 'INVALID_REQUEST', error: /remove-self/ },
  });
  t.equal((await send('DELETE', `/v1/peers/${id}`, { token })).status, 204);
  t.match(await send('GET', `/v1/peers/${id}`, { token }), { status: 200, body: { state: 'removed' } });
  t.match(await send('DELETE', `/v1/peers/${id}`, { token }), { status: 404 });
  t.match(await send('PUT', `/v1/peers/${id}`, { token, body: { name: 'z' } }), { status: 400 });
  t.match(await send('GET', '/v1/peers/peer_01JD0000000000000000000000', { token }), { status: 404 });
  t.match(await send('GET', '/v1/peers/nonsense', { token }), { status: 400 });
});

t.test('a handshake that fails is told as it is', async (t) => {
  const harness = createHarness(t);
  const token = await harness.admin();
  const { head } = harness.log;
  harness.failHandshakes(new ArcticError('HANDSHAKE_FAILED', 'handshake failed: connection refused'));
  const answer = await harness.send('POST', '/v1/peers', { token, body: { address: 'gone.example:8080' } });
  t.match(answer, {
    status: 422,
    body: { code: 'HANDSHAKE_FAILED', error: 'handshake failed: connection refused' },
  });
  t.equal(harness.log.head, head);
});

t.test('the license caps the nodes', async (t) => {
  const harness = createHarness(t);
  const token = await harness.admin({ nodes: 2 });
  const add = (address: string) => harness.send('POST', '/v1/peers', { token, body: { address } });
  t.equal((await add('one.example:8080')).status, 201);
  t.match(await add('two.example:8080'), {
    status: 422,
    body: { code: 'NODE_LIMIT_EXCEEDED', error: 'handshake failed: node limit exceeded' },
  });
});

t.test('this peer leaves its cluster', async (t) => {
  const harness = createHarness(t);
  const token = await harness.admin();
  t.equal((await harness.send('DELETE', '/v1/peers/self', { token })).status, 204);
  t.same(harness.messages, ['gossip'], 'the others are told');
  const { peers } = (await harness.send('GET', '/v1/peers', { token })).body;
  t.match(peers, [{ state: 'left' }]);
  t.match(await harness.send('DELETE', '/v1/peers/self', { token }), { status: 404 });
});

t.test('an internal peer answers health and its recovery token', async (t) => {
  const harness = createHarness(t);
  const { send, identity, log, recoveryFile } = harness;
  const token = await harness.admin();
  t.equal(
    (await send('PUT', `/v1/peers/${identity.peerId}`, { token, body: { api_access: 'internal' } })).status,
    200,
  );
  for (const path of ['/v1/peers', '/v1/cluster/identity', '/.well-known/jwks.json']) {
    t.match(await send('GET', path, { token }), { status: 403, body: { code: 'FORBIDDEN' } }, path);
  }
  t.equal((await send('GET', '/livez')).status, 200);
  t.equal((await send('POST', '/v1/peer/gossip', { raw: '{}' })).text, 'no', 'peers still reach gossip');
  const recovery = readFileSync(recoveryFile, 'utf8').trim();
  const head = log.head;
  const back = await send('PUT', `/v1/peers/${identity.peerId}`, {
    body: { api_access: 'open' },
    headers: { 'x-arctic-recovery': recovery },
  });
  t.equal(back.status, 200);
  t.match(log.read({ after: head }), [
    { type: 'recovery.used', actor: { kind: 'recovery' }, data: { method: 'PUT' } },
    { type: 'peer.updated', actor: { kind: 'recovery', id: null } },
  ]);
  t.ok(
    harness.lines.some((line) => /"level":40.*recovery token was used/.test(line)),
    'logged as a warning',
  );
  t.notOk(harness.lines.join('').includes(recovery), 'without the token');
  t.match(await send('GET', '/v1/peers', { headers: { 'x-arctic-recovery': 'wrong' } }), { status: 401 });
  t.equal((await send('GET', '/v1/peers', { token })).status, 200);
});

t.test('cluster: status, sync, init and lock', async (t) => {
  const harness = createHarness(t);
  const { send, clock } = harness;
  const token = await harness.admin();
  const target = harness.admit('exit');
  const status = await send('GET', '/v1/cluster/status', { token });
  t.ok(Compile(ClusterStatus).Check(status.body), JSON.stringify(Compile(ClusterStatus).Errors(status.body)));
  t.match(status.body.peers, [{ lag: 0 }, { log_head: 7 }]);

  t.match(await send('POST', '/v1/cluster/sync', { token }), { status: 200, body: { triggered: true } });
  t.same(harness.messages.toSorted(), ['gossip', 'reconcilers']);

  t.match(await send('POST', '/v1/cluster/init', { token }), {
    status: 409,
    body: { code: 'ALREADY_EXISTS' },
  });
  t.match(await send('POST', '/v1/cluster/init', { token, body: { force: true } }), { status: 200 });

  t.match((await send('GET', '/v1/cluster/lock', { token })).body, { locked: false, lock: null });
  t.match(await send('DELETE', '/v1/cluster/lock', { token }), { status: 404 });
  const locked = await send('POST', '/v1/cluster/lock', {
    token,
    body: { purpose: 'compose apply', ttl_seconds: 30 },
  });
  t.match(locked, { status: 201, body: { locked: true, lock: { fence: 1, purpose: 'compose apply' } } });
  t.match(await send('POST', '/v1/cluster/lock', { token }), {
    status: 409,
    body: { code: 'CLUSTER_LOCKED' },
  });
  const body = { target_peer_id: target };
  t.match(await send('POST', '/v1/services', { token, body }), {
    status: 409,
    body: { code: 'CLUSTER_LOCKED' },
  });
  const fenced = { 'x-arctic-fence': '1' };
  t.equal((await send('POST', '/v1/services', { token, body, headers: fenced })).status, 201);
  const renewed = await send('POST', '/v1/cluster/lock', {
    token,
    headers: fenced,
    body: { ttl_seconds: 30 },
  });
  t.equal(renewed.body.lock.fence, 2);
  t.match(
    await send('POST', '/v1/services', { token, body, headers: fenced }),
    { body: { code: 'CLUSTER_LOCKED' } },
    'an old fence',
  );
  clock.advance(31_000);
  t.equal((await send('POST', '/v1/services', { token, body })).status, 201, 'it expires by itself');
  const late = await send('POST', '/v1/services', { token, body, headers: { 'x-arctic-fence': '2' } });
  t.match(late, { body: { code: 'CLUSTER_LOCKED' } }, 'a holder whose lease is over is told');
  await send('POST', '/v1/cluster/lock', { token });
  t.equal((await send('DELETE', '/v1/cluster/lock', { token })).status, 204);
  t.match(harness.log.read({ types: ['cluster.lock_released'] }), [{ data: { fence: 3, broken: true } }]);
});
