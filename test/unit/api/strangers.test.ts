/** What somebody who has proved nothing can make the API hold: connections and bytes. */
import { once } from 'node:events';
import { createServer } from 'node:http';
import { type AddressInfo, connect, type Socket } from 'node:net';
import { Readable } from 'node:stream';
import t from 'tap';
import { systemClock } from '../../../events/clock.ts';
import { limitConnections, networkOf } from '../../../src/api/connections.ts';
import { createPeerBodies } from '../../../src/api/peer-body.ts';

const MIB = 1_048_576;

t.test('one network does not take every connection', async (t) => {
  const server = createServer((_request, response) => response.end('ok'));
  const warnings: string[] = [];
  limitConnections(server, { clock: systemClock, warn: (_fields, text) => warnings.push(text) }, 3);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  const sockets: Socket[] = [];
  const open = async (): Promise<Socket> => {
    const socket = connect(port, '127.0.0.1').on('error', () => {});
    sockets.push(socket);
    await once(socket, 'connect');
    return socket;
  };
  t.teardown(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  const ended = (socket: Socket) => new Promise<void>((resolve) => socket.once('close', () => resolve()));
  const first = await open();
  await open();
  await open();
  await ended(await open());
  await ended(await open());
  t.equal(warnings.length, 1, 'said once');
  t.match(warnings[0], /too many connections from one network/);
  first.destroy();
  await ended(first);
  // The server hears of the end a little later.
  for (let i = 0; i < 200; i += 1) {
    const answer = await fetch(`http://127.0.0.1:${port}/`).catch(() => undefined);
    if (answer?.status === 200) return;
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  t.fail('a place that was given back is free');
});

t.test('a network is an IPv4 address or the half of an IPv6 address that a site is given', async (t) => {
  t.equal(networkOf('192.0.2.1'), '192.0.2.1');
  t.equal(networkOf('::ffff:192.0.2.1'), '192.0.2.1');
  t.equal(networkOf('2001:db8:1:2:3:4:5:6'), '2001:db8:1:2');
});

t.test('bytes of strangers are bounded, each and together; a member goes on', async (t) => {
  const bodies = createPeerBodies({
    allowance: (path) =>
      path === '/member' ? { bytes: 4 * MIB, session: 'ab' } : { bytes: MIB, session: undefined },
  });
  /** A sender that gives so much and then waits. */
  const slow = (bytes: number) => {
    const payload = new Readable({ read() {} });
    for (let sent = 0; sent < bytes; sent += 65_536)
      payload.push(Buffer.alloc(Math.min(65_536, bytes - sent)));
    return payload;
  };
  const open: { payload: Readable; result: Promise<string> }[] = [];
  const send = (path: string, address: string, bytes: number): void => {
    const payload = slow(bytes);
    const result = bodies.read(path, address, payload).then(
      (body) => `${body.length}`,
      (error: unknown) => (error instanceof Error && 'code' in error ? String(error.code) : 'threw'),
    );
    open.push({ payload, result });
  };
  for (let i = 0; i < 20; i += 1) send('/x', '192.0.2.1', MIB - 10);
  for (let i = 0; i < 100; i += 1) send('/x', `198.51.100.${i}`, MIB - 10);
  send('/x', '203.0.113.9', 4_096);
  send('/member', '203.0.113.9', 2 * MIB);
  await new Promise((resolve) => setTimeout(resolve, 50));
  for (const { payload } of open) payload.push(null);
  const results = await Promise.all(open.map(({ result }) => result));
  const whole = (from: number, to: number) =>
    results.slice(from, to).filter((one) => one !== 'RATE_LIMITED').length;
  t.equal(whole(0, 20), 16, 'one network');
  t.equal(whole(0, 120), 64, 'all strangers');
  t.same(results.slice(120), ['4096', String(2 * MIB)], 'a first word and a member get through');

  send('/x', '192.0.2.1', MIB - 10);
  open.at(-1)?.payload.push(null);
  t.equal(await open.at(-1)?.result, String(MIB - 10), 'what was held is given back');
  const endless = slow(3 * MIB);
  t.equal((await bodies.read('/x', '192.0.2.1', endless)).length, MIB, 'no more than is worth reading');
  t.notOk(endless.destroyed);
  await new Promise((resolve) => setImmediate(resolve));
  t.ok(endless.readableFlowing, 'the rest passes by');
});
