/** What every implementation must do with IPv4 and with IPv6: whole streams, ends and resets, what is dialed and as whom. */
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import type { Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Test } from 'tap';
import { loadAddon, systemCall } from '../../../src/native/addon.ts';
import { digest, failure, readAll, resetSocket, until } from '../../unit/engines/tproxy/stream-ends.ts';
import { CLIENT, type EngineHost, EXIT, type Lab, SERVER, SERVICES } from './lab.ts';

const addon = loadAddon();
const MSG_OOB = 1;

/** The middle one as urgent data, each in a segment of its own. */
function sendUrgently(socket: Socket, before: string, urgent: string, after: string): void {
  const { fd } = (socket as unknown as { readonly _handle: { readonly fd: number } })._handle;
  socket.setNoDelay(true);
  for (const [text, flags] of [
    [before, 0],
    [urgent, MSG_OOB],
    [after, 0],
  ] as const)
    systemCall('send', addon.send(fd, Buffer.from(text), flags));
}

export async function runFamilyCompliance(t: Test, lab: Lab, family: 4 | 6): Promise<void> {
  const server = family === 4 ? SERVER.v4 : SERVER.v6;
  const name = `IPv${family}`;
  const key = family === 4 ? 'v4' : 'v6';

  await t.test(`${name}: 20 MB arrive whole, and the answer comes after FIN`, async (t) => {
    const listener = await lab.serve(family, 5_000, (socket) => {
      digest(socket).then((sum) => socket.end(sum));
    });
    const sent = randomBytes(20_000_000);
    const client = lab.dial(server, 5_000);
    client.end(sent);
    t.equal((await readAll(client)).toString(), createHash('sha256').update(sent).digest('hex'));
    listener.close();
  });

  await t.test(`${name}: both directions at once`, async (t) => {
    const listener = await lab.serve(family, 5_000, (socket) => socket.pipe(socket));
    const sent = randomBytes(5_000_000);
    const client = lab.dial(server, 5_000);
    client.end(sent);
    t.ok((await readAll(client)).equals(sent));
    listener.close();
  });

  await t.test(`${name}: the server ends first, the client sends on`, async (t) => {
    const received = new Promise<string>((resolve) => {
      lab
        .serve(family, 5_001, (socket) => {
          socket.end('done already');
          digest(socket).then(resolve);
        })
        .catch(() => undefined);
    });
    await sleep(50);
    const client = lab.dial(server, 5_001);
    t.equal((await readAll(client)).toString(), 'done already');
    const late = randomBytes(3_000_000);
    client.end(late);
    t.equal(await received, createHash('sha256').update(late).digest('hex'));
  });

  await t.test(`${name}: a reset of the server reaches the client`, async (t) => {
    const listener = await lab.serve(family, 5_002, (socket) =>
      socket.once('data', () => socket.resetAndDestroy()),
    );
    const client = lab.dial(server, 5_002);
    client.write('x');
    t.equal(await failure(client), 'ECONNRESET');
    listener.close();
  });

  await t.test(`${name}: a reset of the client reaches the server`, async (t) => {
    let accepted: (socket: Socket) => void = () => undefined;
    const ended = new Promise<Socket>((resolve) => {
      accepted = resolve;
    }).then(failure);
    const listener = await lab.serve(family, 5_003, (socket) => {
      accepted(socket);
      socket.write('hello');
    });
    const client = lab.dial(server, 5_003);
    await once(client, 'data');
    client.resetAndDestroy();
    t.equal(await ended, 'ECONNRESET');
    listener.close();
  });

  await t.test(`${name}: a reset after data and FIN is no orderly end`, async (t) => {
    const listener = await lab.serve(family, 5_004, (socket) => {
      socket.once('data', () => {
        socket.write(Buffer.alloc(100_000));
        setTimeout(() => resetSocket(socket), 20);
      });
    });
    const client = lab.dial(server, 5_004);
    client.end('x');
    t.equal(await failure(client), 'ECONNRESET');
    listener.close();
  });

  await t.test(`${name}: a refused connection resets the client`, async (t) => {
    const failed = async (host: EngineHost, side: 'entry' | 'exit'): Promise<number> =>
      (await host.stats()).services[SERVICES.plain.id]?.[side].failed ?? 0;
    const [atEntry, atExit] = [await failed(lab.entry, 'entry'), await failed(lab.exit, 'exit')];
    t.equal(await failure(lab.dial(server, 5_009)), 'ECONNRESET');
    await until(async () => (await failed(lab.exit, 'exit')) === atExit + 1, 'the exit counts it');
    await until(async () => (await failed(lab.entry, 'entry')) === atEntry + 1, 'the entry, too');
  });

  await t.test(
    `${name}: a connection that was reached, or that the client left, has not failed`,
    async (t) => {
      const listener = await lab.serve(family, 5_011, (socket) => {
        socket.on('error', () => undefined);
        socket.once('data', (data) =>
          data.toString() === 'go' ? socket.resetAndDestroy() : socket.end('bye'),
        );
      });
      const failed = async (): Promise<number> =>
        (await lab.entry.stats()).services[SERVICES.plain.id]?.entry.failed ?? 0;
      const active = async (): Promise<number> =>
        (await lab.entry.stats()).services[SERVICES.plain.id]?.entry.active ?? 0;
      const before = await failed();
      const reset = lab.dial(server, 5_011);
      reset.write('go');
      t.equal(await failure(reset), 'ECONNRESET');
      const ended = lab.dial(server, 5_011);
      ended.end('stay');
      await readAll(ended);
      const left = lab.dial(server, 5_011);
      await once(left, 'connect');
      resetSocket(left);
      await until(async () => (await active()) === 0, 'all are over');
      t.equal(await failed(), before);
      listener.close();
    },
  );

  await t.test(
    `${name}: the server sees the exit, or the client when the service is transparent`,
    async (t) => {
      const peers: string[] = [];
      const listeners = [
        await lab.serve(family, 5_010, (socket) => {
          peers.push(socket.remoteAddress ?? '');
          socket.end();
        }),
        await lab.serve(family, 7_010, (socket) => {
          peers.push(socket.remoteAddress ?? '', String(socket.remotePort));
          socket.end();
        }),
      ];
      const plain = lab.dial(server, 5_010);
      plain.end();
      await readAll(plain);
      const transparent = lab.dial(server, 7_010);
      await once(transparent, 'connect');
      const port = transparent.localPort;
      transparent.end();
      await readAll(transparent);
      const key = family === 4 ? 'v4' : 'v6';
      t.same(peers, [EXIT[key], CLIENT[key], String(port)]);
      for (const listener of listeners) listener.close();
    },
  );

  await t.test(`${name}: urgent bytes arrive in their place, and nothing waits behind them`, async (t) => {
    const accepted: Socket[] = [];
    const listener = await lab.serve(family, 5_012, (socket) => {
      accepted.push(socket);
      socket.on('data', (data) => socket.write(data));
      socket.on('end', () => socket.end());
    });
    const client = lab.dial(server, 5_012);
    client.write('first');
    await once(client, 'data');
    const [far] = accepted;
    if (far === undefined) throw new Error('nobody was accepted');
    far.removeAllListeners('data');
    for (const [from, to, by] of [
      [client, far, lab.entry],
      [far, client, lab.exit],
    ] as const) {
      let seen = '';
      to.on('data', (data) => {
        seen += String(data);
      });
      // Stopped meanwhile, so that it finds all three at once.
      process.kill(by.pid, 'SIGSTOP');
      sendUrgently(from, 'begin', '!', 'end');
      await sleep(50);
      process.kill(by.pid, 'SIGCONT');
      await until(() => seen === 'begin!end', 'all of it has come').catch(() => undefined);
      t.equal(seen, 'begin!end', by === lab.entry ? 'from the client' : 'from the server');
    }
    client.end();
    await readAll(client);
    listener.close();
  });

  await t.test(`${name}: a transparent dial goes on when the client's port is taken`, async (t) => {
    const ports: number[] = [];
    const listener = await lab.serve(family, 7_020, (socket) => {
      ports.push(socket.remotePort ?? 0);
      socket.on('data', () => socket.end('y'));
    });
    // Somebody at the exit has the very connection the client's address and port would make. The port is none that the kernel
    // gives to others.
    const port = 20_000 + family;
    const squatter = await lab.squat(CLIENT[key], port, server, 7_020);
    await once(squatter, 'connect');
    const client = lab.dial(server, 7_020, port);
    client.end('x');
    t.equal((await readAll(client)).toString(), 'y');
    t.equal(ports[0], port);
    t.not(ports[1], ports[0], 'another port of the same client');
    squatter.destroy();
    listener.close();
  });

  await t.test(`${name}: the exit dials only what the routes allow`, async (t) => {
    let connections = 0;
    const listener = await lab.serve(family, 8_000, (socket) => {
      connections += 1;
      socket.end();
    });
    const refused = (await lab.exit.stats()).services[SERVICES.narrow.id]?.exit.refused ?? 0;
    const client = lab.dial(server, 8_000);
    client.write('let me in');
    t.equal(await failure(client), 'ECONNRESET');
    t.equal(connections, 0);
    t.equal((await lab.exit.stats()).services[SERVICES.narrow.id]?.exit.refused, refused + 1);
    listener.close();
  });
}
