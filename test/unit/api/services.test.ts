import t from 'tap';
import { Compile } from 'typebox/compile';
import { listOf } from '../../../src/api/schemas/fields.ts';
import { Service } from '../../../src/api/schemas/services.ts';
import { createHarness } from './harness.ts';

t.test('a service: created, read, changed, deleted', async (t) => {
  const harness = createHarness(t);
  const { send, identity, log } = harness;
  const token = await harness.admin();
  const target = harness.admit('exit');

  const created = await send('POST', '/v1/services', {
    token,
    body: {
      name: 'to exit',
      target_peer_id: target,
      requires_interface: true,
      desired_ipv4_cidr: '10.9.0.1/24',
      desired_ipv6_cidr: '2001:DB8:0::1/64',
      fully_transparent: true,
      bandwidth_limit_mbps: 12.5,
    },
  });
  t.equal(created.status, 201);
  t.ok(Compile(Service).Check(created.body), 'has the documented shape');
  const { id } = created.body;
  t.match(created.body, {
    source_peer_id: identity.peerId,
    transport_type: 'tcp',
    desired_ipv6_cidr: '2001:db8::1/64',
    interface_name: id.slice(0, 15),
    interface_ipv4_cidr: '10.9.0.1/24',
    route_count: 0,
    version: 1,
    status: { iptun: { state: 'pending', reason: 'waiting for a handshake' } },
  });
  t.equal(created.headers.etag, '"1"');

  const head = log.head;
  const same = await send('PUT', `/v1/services/${id}`, {
    token,
    body: { name: 'to exit', transport_type: 'tcp' },
  });
  t.match(same, { status: 200, body: { version: 1 } });
  t.equal(log.head, head, 'what changes nothing appends nothing');
  const changed = await send('PUT', `/v1/services/${id}`, {
    token,
    body: { bandwidth_limit_mbps: 0, name: 'renamed' },
  });
  t.match(changed, { status: 200, body: { version: 2, name: 'renamed', bandwidth_limit_mbps: 0 } });
  t.match(log.read({ after: head }), [
    { type: 'service.updated', data: { name: 'renamed', bandwidth_limit_mbps: 0 } },
  ]);
  t.match(log.read({ after: head })[0]?.actor, { kind: 'client', address: '127.0.0.1' });

  const stale = await send('PUT', `/v1/services/${id}`, {
    token,
    body: { name: 'x' },
    headers: { 'if-match': '"1"' },
  });
  t.match(stale, { status: 409, body: { code: 'CONFLICT' } });
  const unchanged = await send('PUT', `/v1/services/${id}`, {
    token,
    body: { name: 'renamed' },
    headers: { 'if-match': '"1"' },
  });
  t.equal(unchanged.status, 409, 'also when nothing would change');
  const fresh = await send('PUT', `/v1/services/${id}`, {
    token,
    body: { name: 'x' },
    headers: { 'if-match': '"2"' },
  });
  t.match(fresh, { status: 200, body: { version: 3 } });
  t.equal((await send('DELETE', `/v1/services/${id}`, { token })).status, 204);
  t.match(await send('GET', `/v1/services/${id}`, { token }), { status: 404, body: { code: 'NOT_FOUND' } });
  t.equal((await send('DELETE', `/v1/services/${id}`, { token })).status, 404);
});

t.test('what a service may not be', async (t) => {
  const harness = createHarness(t);
  const { send, identity, log } = harness;
  const token = await harness.admin();
  const target = harness.admit('exit');
  const stranger = 'peer_01JD0000000000000000000000';
  const taken = {
    name: 'taken',
    target_peer_id: target,
    requires_interface: true,
    desired_ipv4_cidr: '10.9.0.1/24',
  };
  t.equal((await send('POST', '/v1/services', { token, body: taken })).status, 201);
  const head = log.head;
  const cases: readonly [string, object, string, string][] = [
    ['leads to itself', { target_peer_id: identity.peerId }, 'INVALID_REQUEST', '/target_peer_id'],
    ['an unknown target', { target_peer_id: stranger }, 'INVALID_REQUEST', '/target_peer_id'],
    [
      'an unknown source',
      { target_peer_id: target, source_peer_id: stranger },
      'INVALID_REQUEST',
      '/source_peer_id',
    ],
    ['no target', { name: 'x' }, 'INVALID_REQUEST', '/target_peer_id'],
    ['an unknown field', { target_peer_id: target, colour: 'red' }, 'INVALID_REQUEST', '/colour'],
    [
      'a wrong type',
      { target_peer_id: target, requires_interface: 'true' },
      'INVALID_REQUEST',
      '/requires_interface',
    ],
    [
      'a number as text',
      { target_peer_id: target, bandwidth_limit_mbps: '5' },
      'INVALID_REQUEST',
      '/bandwidth_limit_mbps',
    ],
    [
      'an unknown transport',
      { target_peer_id: target, transport_type: 'udp' },
      'INVALID_REQUEST',
      '/transport_type',
    ],
    [
      'a negative limit',
      { target_peer_id: target, bandwidth_limit_mbps: -1 },
      'INVALID_REQUEST',
      '/bandwidth_limit_mbps',
    ],
    ['a control character', { target_peer_id: target, name: 'a\u0007' }, 'INVALID_REQUEST', '/name'],
    [
      'an address without interface',
      { target_peer_id: target, desired_ipv4_cidr: '10.0.0.1/24' },
      'INVALID_REQUEST',
      '/desired_ipv4_cidr',
    ],
    [
      'transparent kcp',
      { target_peer_id: target, requires_interface: true, fully_transparent: true, transport_type: 'kcp' },
      'INVALID_REQUEST',
      '/fully_transparent',
    ],
    [
      'transparent without interface',
      { target_peer_id: target, fully_transparent: true },
      'INVALID_REQUEST',
      '/fully_transparent',
    ],
    [
      'the other family',
      { target_peer_id: target, requires_interface: true, desired_ipv4_cidr: '2001:db8::1/64' },
      'INVALID_CIDR',
      '/desired_ipv4_cidr',
    ],
    [
      'a network as address',
      { target_peer_id: target, requires_interface: true, desired_ipv4_cidr: '10.0.0.0/24' },
      'INVALID_CIDR',
      '/desired_ipv4_cidr',
    ],
    [
      'a used address',
      { target_peer_id: target, requires_interface: true, desired_ipv4_cidr: '10.9.0.1/24' },
      'INVALID_REQUEST',
      '/desired_ipv4_cidr',
    ],
    ['a used name', { target_peer_id: target, name: 'taken' }, 'ALREADY_EXISTS', '/name'],
  ];
  for (const [name, body, code, pointer] of cases) {
    const answer = await send('POST', '/v1/services', { token, body });
    t.equal(answer.body.code, code, `${name}: ${answer.body.error}`);
    t.equal(answer.body.details?.[0]?.pointer, pointer, name);
  }
  t.equal(log.head, head, 'nothing was appended');
});

t.test('the license caps the services', async (t) => {
  const harness = createHarness(t);
  const token = await harness.admin({ services: 1 });
  const body = { target_peer_id: harness.admit('exit') };
  t.equal((await harness.send('POST', '/v1/services', { token, body })).status, 201);
  const answer = await harness.send('POST', '/v1/services', { token, body });
  t.match(answer, { status: 422, body: { code: 'SERVICE_LIMIT_EXCEEDED' } });
});

t.test('lists are filtered and paged', async (t) => {
  const harness = createHarness(t);
  const { send } = harness;
  const token = await harness.admin();
  const one = harness.admit('one');
  const two = harness.admit('two');
  const ids: string[] = [];
  for (let i = 0; i < 5; i += 1) {
    const body = { target_peer_id: i % 2 === 0 ? one : two, requires_interface: i === 0 };
    ids.push((await send('POST', '/v1/services', { token, body })).body.id);
  }
  const all = await send('GET', '/v1/services', { token });
  t.ok(Compile(listOf('services', Service)).Check(all.body));
  t.same(
    all.body.services.map((service: { id: string }) => service.id),
    ids,
  );
  const filtered = await send('GET', `/v1/services?target_peer_id=${two}`, { token });
  t.equal(filtered.body.services.length, 2);
  t.equal((await send('GET', '/v1/services?requires_interface=true', { token })).body.services.length, 1);
  const seen: string[] = [];
  let cursor = '';
  for (let pages = 0; pages < 5; pages += 1) {
    const page = await send('GET', `/v1/services?limit=2${cursor}`, { token });
    seen.push(...page.body.services.map((service: { id: string }) => service.id));
    if (pages === 0) await send('DELETE', `/v1/services/${ids[1]}`, { token });
    if (page.body.next_cursor === null) break;
    cursor = `&cursor=${page.body.next_cursor}`;
  }
  t.same(seen, ids, 'also when the last of a page is deleted before the next is asked for');
  for (const query of [
    'limit=0',
    'limit=x',
    'limit=1001',
    'cursor=%21',
    'unknown=1',
    'requires_interface=1',
    'limit=1&limit=2',
  ]) {
    t.match(
      await send('GET', `/v1/services?${query}`, { token }),
      { status: 400, body: { code: 'INVALID_REQUEST' } },
      query,
    );
  }
});

t.test('an Idempotency-Key makes a creation happen once', async (t) => {
  const harness = createHarness(t);
  const { send, log } = harness;
  const token = await harness.admin();
  const body = { name: 'once', target_peer_id: harness.admit('exit') };
  const headers = { 'idempotency-key': 'abc' };
  const first = await send('POST', '/v1/services', { token, body, headers });
  const head = log.head;
  const second = await send('POST', '/v1/services', { token, body, headers });
  t.equal(second.status, 201);
  t.equal(second.body.id, first.body.id);
  t.equal(log.head, head);
  const other = await send('POST', '/v1/services', { token, body, headers: { 'idempotency-key': 'abd' } });
  t.match(other, { status: 409, body: { code: 'ALREADY_EXISTS' } });
  t.equal(
    (await send('POST', '/v1/services', { token, body, headers: { 'idempotency-key': 'a b' } })).status,
    400,
  );
});

t.test('routes: added together or not at all, changed, deleted', async (t) => {
  const harness = createHarness(t);
  const { send, log } = harness;
  const token = await harness.admin();
  const { id } = (
    await send('POST', '/v1/services', { token, body: { target_peer_id: harness.admit('exit') } })
  ).body;
  const path = `/v1/services/${id}/routes`;
  const routes = [
    { priority: 10, dest_cidr: '10.1.0.0/16' },
    { priority: 20, source_cidr: '192.168.0.0/24', dest_cidr: '0.0.0.0/0' },
    { priority: 0, dest_cidr: '2001:DB8::/32' },
  ];
  const added = await send('POST', path, { token, body: { routes } });
  t.match(added, { status: 201, body: { route_ids: [1, 2, 3], count: 3 } });
  const listed = await send('GET', path, { token });
  t.match(listed.body.routes, [
    { id: 1, priority: 10 },
    { id: 2 },
    { id: 3, dest_cidr: '2001:db8::/32', source_cidr: null },
  ]);
  t.equal((await send('GET', `/v1/services/${id}`, { token })).body.route_count, 3);

  const head = log.head;
  const cases: readonly [string, object, string, string, RegExp][] = [
    ['no side', { priority: 1 }, 'INVALID_REQUEST', '/routes/1', /needs a source_cidr/],
    [
      'mixed families',
      { priority: 1, source_cidr: '10.0.0.0/8', dest_cidr: '2001:db8::/32' },
      'INVALID_CIDR',
      '/routes/1',
      /mixes/,
    ],
    [
      'host bits',
      { priority: 1, dest_cidr: '10.1.2.3/16' },
      'INVALID_CIDR',
      '/routes/1/dest_cidr',
      /10\.1\.0\.0\/16/,
    ],
    [
      'IPv6 host bits',
      { priority: 1, dest_cidr: '2001:db8::1/32' },
      'INVALID_CIDR',
      '/routes/1/dest_cidr',
      /2001:db8::\/32/,
    ],
    [
      'no prefix',
      { priority: 1, dest_cidr: '10.1.2.3' },
      'INVALID_CIDR',
      '/routes/1/dest_cidr',
      /10\.1\.2\.3\/32/,
    ],
    [
      'a prefix too long',
      { priority: 1, dest_cidr: '10.1.2.3/33' },
      'INVALID_CIDR',
      '/routes/1/dest_cidr',
      /0 to 32/,
    ],
    ['octal', { priority: 1, dest_cidr: '010.0.0.0/8' }, 'INVALID_CIDR', '/routes/1/dest_cidr', /not a CIDR/],
    [
      'mapped',
      { priority: 1, dest_cidr: '::ffff:10.0.0.0/104' },
      'INVALID_CIDR',
      '/routes/1/dest_cidr',
      /10\.0\.0\.0\/8/,
    ],
    ['a duplicate', { priority: 10, dest_cidr: '10.1.0.0/16' }, 'ALREADY_EXISTS', '/routes/1', /route 1/],
    [
      'a priority too high',
      { priority: 65_536, dest_cidr: '10.0.0.0/8' },
      'INVALID_REQUEST',
      '/routes/1/priority',
      /65535/,
    ],
    ['no priority', { dest_cidr: '10.0.0.0/8' }, 'INVALID_REQUEST', '/routes/1/priority', /required/],
  ];
  for (const [name, route, code, pointer, text] of cases) {
    const answer = await send('POST', path, {
      token,
      body: { routes: [{ priority: 5, dest_cidr: '172.16.0.0/12' }, route] },
    });
    t.equal(answer.body.code, code, name);
    t.equal(answer.body.details?.[0]?.pointer, pointer, name);
    t.match(answer.body.error, text, name);
  }
  t.equal((await send('POST', path, { token, body: { routes: [] } })).status, 400);
  t.equal(log.head, head, 'nothing was appended');

  const updated = await send('PUT', `${path}/1`, {
    token,
    body: { priority: 11, source_cidr: '10.2.0.0/16' },
  });
  t.match(updated, {
    status: 200,
    body: { id: 1, priority: 11, source_cidr: '10.2.0.0/16', dest_cidr: '10.1.0.0/16', version: 2 },
  });
  t.equal((await send('PUT', `${path}/1`, { token, body: { priority: 11 } })).body.version, 2);
  t.match(await send('PUT', `${path}/3`, { token, body: { dest_cidr: null } }), { status: 400 });
  t.match(await send('PUT', `${path}/1`, { token, body: { priority: 1 }, headers: { 'if-match': '1' } }), {
    body: { code: 'CONFLICT' },
  });
  t.equal((await send('DELETE', `${path}/2`, { token })).status, 204);
  t.match(await send('DELETE', `${path}/2`, { token }), { status: 404, body: { code: 'NOT_FOUND' } });
  t.equal((await send('PUT', `${path}/x`, { token, body: { priority: 1 } })).status, 400);
  t.match(
    (await send('POST', path, { token, body: { routes: [{ priority: 1, dest_cidr: '10.3.0.0/16' }] } })).body,
    { route_ids: [4] },
  );
  t.equal((await send('GET', '/v1/services/svc_01JD0000000000000000000000/routes', { token })).status, 404);
});
