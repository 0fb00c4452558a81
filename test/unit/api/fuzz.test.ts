import fc from 'fast-check';
import t from 'tap';
import { createHarness } from './harness.ts';

const PATHS = [
  ['POST', '/v1/services'],
  ['PUT', '/v1/services/:id'],
  ['POST', '/v1/services/:id/routes'],
  ['PUT', '/v1/services/:id/routes/1'],
  ['POST', '/v1/credentials'],
  ['PUT', '/v1/license'],
  ['POST', '/v1/bootstrap'],
  ['PUT', '/v1/peers/:peer'],
  ['POST', '/v1/cluster/lock'],
  ['POST', '/v1/cluster/init'],
] as const;

/** Documents that look like ours, with values that need not. */
const value = fc.oneof(
  fc.jsonValue({ maxDepth: 2 }),
  fc.ipV4(),
  fc.ipV6().map((one) => `${one}/64`),
  fc.constantFrom(
    'tcp',
    'kcp',
    '10.0.0.0/8',
    '10.0.0.1/8',
    'open',
    'admin',
    -1,
    0,
    65_536,
    1e308,
    true,
    null,
  ),
);
const field = fc.constantFrom(
  'name',
  'target_peer_id',
  'source_peer_id',
  'transport_type',
  'requires_interface',
  'desired_ipv4_cidr',
  'fully_transparent',
  'bandwidth_limit_mbps',
  'on_failure',
  'routes',
  'priority',
  'dest_cidr',
  'source_cidr',
  'scopes',
  'license',
  'api_access',
  'address',
  'force',
  'ttl_seconds',
  'constructor',
);
const document = fc.oneof(
  fc.dictionary(field, value, { maxKeys: 5 }).map((one) => JSON.stringify(one)),
  fc
    .array(fc.dictionary(field, value, { maxKeys: 3 }), { maxLength: 3 })
    .map((one) => JSON.stringify({ routes: one })),
  fc.json({ maxDepth: 3 }),
  fc.string(),
);

t.test(
  'whatever is sent is answered by a refusal of the catalogue, and a refusal changes nothing',
  async (t) => {
    const harness = createHarness(t);
    const { send, log } = harness;
    const token = await harness.admin({ services: 1_000 });
    const peer = harness.admit('exit');
    const { id } = (await send('POST', '/v1/services', { token, body: { target_peer_id: peer } })).body;
    await send('POST', `/v1/services/${id}/routes`, {
      token,
      body: { routes: [{ priority: 1, dest_cidr: '10.9.0.0/16' }] },
    });
    const recovery = { 'x-arctic-fence': '1' };
    await fc.assert(
      fc.asyncProperty(fc.constantFrom(...PATHS), document, async ([method, path], raw) => {
        const { head } = log;
        const answer = await send(method, path.replace(':id', id).replace(':peer', peer), { token, raw });
        if (answer.status >= 500) throw new Error(`${method} ${path} ${raw}: ${answer.text}`);
        if (answer.status >= 400 && log.head !== head)
          throw new Error(`${method} ${path} ${raw} changed the log`);
        // A lock that was taken would hide everything behind it.
        if (path === '/v1/cluster/lock' && answer.status === 201) {
          await send('DELETE', '/v1/cluster/lock', { token, headers: recovery });
        }
      }),
      { numRuns: 1_000 },
    );
  },
);

t.test('whatever stands in a query, a path or a header', async (t) => {
  const harness = createHarness(t);
  const { send, log } = harness;
  const token = await harness.admin();
  const { head } = log;
  const path = fc.constantFrom('/v1/services', '/v1/events', '/v1/replay', '/v1/peers', '/v1/credentials');
  const name = fc.constantFrom(
    'limit',
    'cursor',
    'until',
    'after',
    'type',
    'projection',
    'origin',
    '__proto__',
    'x',
  );
  const header = fc.constantFrom(
    'x-arctic-peer',
    'x-arctic-hop',
    'x-arctic-fence',
    'if-match',
    'x-request-id',
    'authorization',
    'idempotency-key',
  );
  const headerValue = fc.stringMatching(/^[\x20-\x7e]{0,60}$/);
  await fc.assert(
    fc.asyncProperty(
      path,
      name,
      fc.string(),
      header,
      headerValue,
      async (base, key, text, headerName, headerText) => {
        const answers = [
          await send('GET', `${base}?${key}=${encodeURIComponent(text)}`, { token }),
          await send('GET', `${base}/${encodeURIComponent(text)}`, { token }),
          await send('GET', base, { token, headers: { [headerName]: headerText } }),
        ];
        for (const answer of answers) if (answer.status >= 500) throw new Error(answer.text);
      },
    ),
    { numRuns: 300 },
  );
  t.equal(log.head, head);
});
