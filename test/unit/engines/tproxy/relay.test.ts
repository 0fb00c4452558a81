import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import t from 'tap';
import { agree, type Pair, SERVICE, serve, startPair } from './loopback.ts';
import { failure, readAll, until } from './stream-ends.ts';

const dial = (pair: Pair): Socket =>
  connect({ port: pair.entry.listenPort, host: '127.0.0.1', allowHalfOpen: true });

t.test('bytes go both ways, the answer comes after FIN, counters agree', async (t) => {
  const pair = await startPair();
  t.teardown(() => pair.stop());
  pair.destination = await serve(t, (socket) => {
    const hash = createHash('sha256');
    socket.on('data', (chunk) => hash.update(chunk));
    socket.on('end', () => socket.end(hash.digest('hex')));
  });
  const sent = randomBytes(3_000_000);
  const client = dial(pair);
  client.end(sent);
  t.equal((await readAll(client)).toString(), createHash('sha256').update(sent).digest('hex'));
  await until(() => pair.entry.stats().services[SERVICE]?.entry.active === 0, 'the flow ends');
  const entry = pair.entry.stats().services[SERVICE]?.entry;
  const exit = pair.exit.stats().services[SERVICE]?.exit;
  t.match(entry, { connections: 1, active: 0, bytesIn: 3_000_000, bytesOut: 64, failed: 0, refused: 0 });
  await until(() => pair.exit.stats().services[SERVICE]?.exit.active === 0, 'the exit flow ends');
  t.match(exit, { connections: 1, bytesIn: 64, bytesOut: 3_000_000 });
});

t.test('one link serves many flows one after the other', async (t) => {
  const pair = await startPair({ pool: { warm: 1 } });
  t.teardown(() => pair.stop());
  pair.destination = await serve(t, (socket) => socket.pipe(socket));
  for (let round = 0; round < 20; round += 1) {
    const client = dial(pair);
    client.end(`round ${round}`);
    t.equal((await readAll(client)).toString(), `round ${round}`);
    await until(() => pair.entry.stats().carriers['exit']?.leased === 0, 'the link is free');
  }
  const carriers = pair.entry.stats().carriers['exit'];
  t.ok((carriers?.dialed ?? 99) <= 3, `${carriers?.dialed} links dialed`);
  t.ok((carriers?.reused ?? 0) >= 17, `${carriers?.reused} leases of a used link`);
});

t.test('keys change in mid-flow without a byte lost', async (t) => {
  const pair = await startPair({ link: { rekeyFrames: 3 } });
  t.teardown(() => pair.stop());
  pair.destination = await serve(t, (socket) => socket.pipe(socket));
  const sent = randomBytes(2_000_000);
  const client = dial(pair);
  client.end(sent);
  t.ok((await readAll(client)).equals(sent));
});

t.test('resets pass in both directions, and the link is used again', async (t) => {
  const pair = await startPair({ pool: { warm: 1, most: 1 } });
  t.teardown(() => pair.stop());
  pair.destination = await serve(t, (socket) => socket.once('data', () => socket.resetAndDestroy()));
  const first = dial(pair);
  first.write('x');
  t.equal(await failure(first), 'ECONNRESET');

  let accepted: (socket: Socket) => void = () => undefined;
  const seen = new Promise<Socket>((resolve) => {
    accepted = resolve;
  }).then(failure);
  pair.destination = await serve(t, (socket) => {
    accepted(socket);
    socket.write('hello');
  });
  const second = dial(pair);
  await once(second, 'data');
  second.resetAndDestroy();
  t.equal(await seen, 'ECONNRESET');
  t.equal(pair.entry.stats().carriers['exit']?.dialed, 1);
});

t.test('a refused destination resets the client', async (t) => {
  const pair = await startPair();
  t.teardown(() => pair.stop());
  pair.destination = { address: '127.0.0.1', port: 1 };
  t.equal(await failure(dial(pair)), 'ECONNRESET');
  await until(() => pair.exit.stats().services[SERVICE]?.exit.failed === 1, 'the failure is counted');
  t.equal(pair.entry.stats().services[SERVICE]?.entry.failed, 1, 'on the host of the client as well');
});

t.test('the exit dials nothing its routes do not allow', async (t) => {
  const pair = await startPair();
  t.teardown(() => pair.stop());
  let connections = 0;
  pair.destination = await serve(t, (socket) => {
    connections += 1;
    socket.end();
  });
  pair.configure({ allowed: ['10.0.0.0/8'] });
  t.equal(await failure(dial(pair)), 'ECONNRESET');
  t.equal(connections, 0);
  t.equal(pair.exit.stats().services[SERVICE]?.exit.refused, 1);
  t.equal(pair.exit.stats().refused.flows, 1);
});

t.test('a connection that was not redirected is reset', async (t) => {
  const pair = await startPair();
  t.teardown(() => pair.stop());
  pair.mark = 0;
  t.equal(await failure(dial(pair)), 'ECONNRESET');
  t.equal(pair.entry.stats().refused.connections, 1);
  pair.mark = 0x4100_0001;
  pair.destination = { address: '127.0.0.1', port: pair.entry.listenPort };
  t.equal(await failure(dial(pair)), 'ECONNRESET');
  t.equal(pair.entry.stats().refused.connections, 2);
});

t.test('a renewed session drains, a removed one dies with its flows', async (t) => {
  const pair = await startPair({ renewalGrace: 50 });
  t.teardown(() => pair.stop());
  pair.destination = await serve(t, (socket) => socket.pipe(socket));
  const client = dial(pair);
  client.write('one');
  t.equal(String(await once(client, 'data')), 'one');

  const old = pair.entryKeys.current('exit')?.sessionId ?? '';
  agree(pair.entryKeys, pair.exitKeys);
  pair.exitKeys.retire(old, 'renewed');
  pair.entryKeys.retire(old, 'renewed');
  client.write('two');
  t.equal(String(await once(client, 'data')), 'two', 'the open flow goes on');
  const next = dial(pair);
  next.end('three');
  t.equal(String(await readAll(next)), 'three', 'a new flow uses the new session');

  const current = pair.entryKeys.current('exit')?.sessionId ?? '';
  const last = dial(pair);
  last.write('four');
  t.equal(String(await once(last, 'data')), 'four');
  const broken = [failure(last), failure(client)];
  pair.exitKeys.retire(current, 'removed');
  t.same(await Promise.all(broken), ['ECONNRESET', 'ECONNRESET'], 'also the one of the session before');
});

t.test('flows of a service that is removed are reset, a slow reader holds the sender', async (t) => {
  const pair = await startPair();
  t.teardown(() => pair.stop());
  let written = 0;
  pair.destination = await serve(t, (socket) => {
    const block = Buffer.alloc(65_536);
    const more = (): void => {
      while (!socket.destroyed && written < 500_000_000) {
        written += block.length;
        if (!socket.write(block)) break;
      }
    };
    socket.on('drain', more);
    more();
  });
  const client = dial(pair);
  client.pause();
  await once(client, 'connect');
  let before = -1;
  await until(() => {
    const steady = written === before && written > 0;
    before = written;
    return steady;
  }, 'the sender is held');
  t.ok(written < 200_000_000, `${written} bytes before the sender stopped`);
  const broken = failure(client);
  pair.configure({ entries: false });
  t.equal(await broken, 'ECONNRESET');
});

t.test('without a peer a flow waits and is then reset', async (t) => {
  const pair = await startPair({ pool: { waitTimeout: 300 } });
  t.teardown(() => pair.stop());
  await pair.exit.stop();
  t.equal(await failure(dial(pair)), 'ECONNRESET');
  t.equal(pair.entry.stats().services[SERVICE]?.entry.failed, 1);
});

t.test('stop drains what is open and leaves nothing', async (t) => {
  const pair = await startPair();
  pair.destination = await serve(t, (socket) => socket.pipe(socket));
  const client = dial(pair);
  client.write('a');
  await once(client, 'data');
  const stopped = pair.entry.stop(5_000);
  client.end('b');
  t.equal(String(await readAll(client)), 'b', 'the open flow may finish');
  await stopped;
  await pair.exit.stop();
});

t.test('limited bytes arrive whole, also when FIN comes before their turn', async (t) => {
  const pair = await startPair();
  t.teardown(() => pair.stop());
  pair.configure({ limit: 40_000_000 });
  const sent = randomBytes(1_000_000);
  pair.destination = await serve(t, (socket) => {
    socket.resume();
    socket.end(sent);
  });
  const client = dial(pair);
  client.end();
  t.ok((await readAll(client)).equals(sent));
});
