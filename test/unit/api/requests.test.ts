import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { join } from 'node:path';
import t from 'tap';
import { Agent, request } from 'undici';
import { createHarness } from './harness.ts';

t.test('what is not a request of ours changes nothing', async (t) => {
  const harness = createHarness(t);
  const { send, log } = harness;
  const token = await harness.admin();
  const head = log.head;
  const post = (raw: string, headers = {}) => send('POST', '/v1/services', { token, raw, headers });
  const invalid = { status: 400, body: { code: 'INVALID_REQUEST' } };
  t.match(await post('{"name":'), { ...invalid, body: { details: [{ pointer: '' }] } }, 'half a document');
  t.match(await post(''), invalid, 'nothing');
  t.match(await post('null'), invalid);
  t.match(await post('[]'), invalid);
  t.match(await post('"text"'), invalid);
  t.match(await post('{"__proto__":{"admin":true}}'), invalid, 'a prototype');
  t.match(await post('{}', { 'content-type': 'text/plain' }), invalid);
  t.match(await post('a=b', { 'content-type': 'application/x-www-form-urlencoded' }), invalid);
  t.match(await post('{}', { 'content-type': 'multipart/form-data; boundary=x' }), invalid);
  const both = await post('{"colour":1,"name":5}');
  t.same(
    both.body.details.map((one: { pointer: string }) => one.pointer).toSorted(),
    ['/colour', '/name', '/target_peer_id'],
    'all faults are told at once',
  );
  const huge = await post(JSON.stringify({ name: 'x'.repeat(1_100_000) }));
  t.match(huge, { status: 413, body: { code: 'TOO_LARGE' } });
  t.match(await send('PATCH', '/v1/services', { token }), { status: 404, body: { code: 'NOT_FOUND' } });
  t.match(await send('GET', '/nowhere'), { status: 404, body: { code: 'NOT_FOUND' } });
  t.match(await send('GET', '/v1/services/%E0%A4%A', { token }), {
    status: 400,
    body: { code: 'INVALID_REQUEST' },
  });
  t.match(await send('GET', '/v1/peers', { token, headers: { 'x-arctic-peer': 'nonsense' } }), {
    status: 400,
  });
  t.match(
    await send('GET', '/v1/peers', {
      token,
      headers: { 'x-arctic-peer': 'peer_01JD0000000000000000000000' },
    }),
    { status: 404 },
  );
  t.match(
    await send('DELETE', '/v1/cluster/lock', { token, headers: { 'if-match': 'x', 'x-arctic-fence': '0' } }),
    { status: 400 },
  );
  t.equal(log.head, head);
});

t.test('a request is known by its id', async (t) => {
  const harness = createHarness(t);
  const { send } = harness;
  t.equal(
    (await send('GET', '/livez', { headers: { 'x-request-id': 'abc-1' } })).headers['x-request-id'],
    'abc-1',
  );
  const replaced = await send('GET', '/livez', { headers: { 'x-request-id': 'a\tb "c"' } });
  t.match(replaced.headers['x-request-id'], /^cor_/);
  const token = await harness.admin();
  const body = { target_peer_id: harness.admit('exit') };
  await send('POST', '/v1/services', { token, body, headers: { 'x-request-id': 'change-7' } });
  t.equal(harness.log.read({ types: ['service.created'] })[0]?.correlation_id, 'change-7');
});

t.test('a disk that refuses is UNAVAILABLE, a fault of ours is INTERNAL without details', async (t) => {
  const harness = createHarness(t);
  const { send, log } = harness;
  const token = await harness.admin();
  const body = { target_peer_id: harness.admit('exit') };
  const append = log.append;
  const failWith = (error: Error) => {
    (log as { append: unknown }).append = () => {
      throw error;
    };
  };
  failWith(Object.assign(new Error('database or disk is full'), { code: 'SQLITE_FULL' }));
  t.match(await send('POST', '/v1/services', { token, body }), {
    status: 503,
    body: { code: 'UNAVAILABLE' },
  });
  failWith(new Error('internal detail'));
  const answer = await send('POST', '/v1/services', { token, body });
  t.match(answer, { status: 500, body: { code: 'INTERNAL' } });
  t.notMatch(answer.text, /internal detail/);
  t.ok(
    harness.lines.some((line) => line.includes('internal detail')),
    'the log has it',
  );
  (log as { append: unknown }).append = append;
  t.equal((await send('POST', '/v1/services', { token, body })).status, 201);
});

t.test('over a real socket', async (t) => {
  const { api } = createHarness(t);
  const { host, port } = await api.start();
  const live = await fetch(`http://${host}:${port}/livez`);
  t.match(await live.json(), { status: 'ok', timestamp: String });
  const head = await fetch(`http://${host}:${port}/livez`, { method: 'HEAD' });
  t.equal(head.status, 200);
  const socket = connect(port, host);
  socket.end('NONSENSE\r\n\r\n');
  const chunks: Buffer[] = [];
  for await (const chunk of socket) chunks.push(chunk as Buffer);
  t.match(Buffer.concat(chunks).toString(), /^HTTP\/1\.1 400 Bad Request\r\n[\s\S]*"code":"INVALID_REQUEST"/);
});

t.test('a busy port is one clear line', async (t) => {
  const holder = createServer().listen(0, '127.0.0.1');
  await once(holder, 'listening');
  t.teardown(() => void holder.close());
  const { port } = holder.address() as { port: number };
  const busy = createHarness(t, { port });
  await t.rejects(busy.api.start(), {
    code: 'UNAVAILABLE',
    message: new RegExp(`127\\.0\\.0\\.1:${port}.*API_PORT`),
  });
});

t.test('over TLS, when the operator gives a certificate', async (t) => {
  const read = (name: string) => readFileSync(join(import.meta.dirname, 'tls', name));
  const { api } = createHarness(t, { tls: { cert: read('test.crt'), key: read('test.key') } });
  const { port } = await api.start();
  const dispatcher = new Agent({ connect: { ca: read('test.crt') } });
  t.teardown(() => dispatcher.destroy());
  const answer = await request(`https://127.0.0.1:${port}/livez`, { dispatcher });
  t.equal(answer.statusCode, 200);
  t.match(await answer.body.json(), { status: 'ok' });
  await t.rejects(request(`http://127.0.0.1:${port}/livez`), 'plain HTTP is not answered there');
});

t.test('a request that drips in is cut off, a stop does not wait for it', async (t) => {
  const { api } = createHarness(t);
  const { host, port } = await api.start();
  const socket = connect(port, host);
  await once(socket, 'connect');
  socket.on('error', () => {});
  socket.write(
    'POST /v1/bootstrap HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{',
  );
  const closed = once(socket, 'close');
  await api.stop();
  socket.destroy();
  await closed;
  t.equal(api.app.server.requestTimeout, 30_000);
  t.equal(api.app.server.headersTimeout, 15_000);
});
