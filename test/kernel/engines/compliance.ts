/**
 * What every implementation of the TCP engine must do, on a real kernel. Runs with one implementation at the entry
 * and one, the same or another, at the exit.
 */
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import type { Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Test } from 'tap';
import { digest, failure, readAll, resetSocket, until } from '../../unit/engines/tproxy/stream-ends.ts';
import type { Implementation } from './engine-process.ts';
import {
  CLIENT,
  type EngineHost,
  EXIT,
  type Lab,
  LIMIT_BITS,
  SERVER,
  SERVICES,
  startLab,
  type Transport,
} from './lab.ts';

/** Flows of all services on both hosts. */
async function activeFlows(lab: Lab): Promise<number> {
  let count = 0;
  for (const host of [lab.entry, lab.exit]) {
    for (const { entry, exit } of Object.values((await host.stats()).services)) {
      count += entry.active + exit.active;
    }
  }
  return count;
}

/** Whole numbers below a bound, the same ones in each run (mulberry32). */
function createRandom(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) % below;
  };
}

const whenQuiet = (lab: Lab): Promise<void> =>
  until(async () => (await activeFlows(lab)) === 0, 'no flow is left');

export async function runCompliance(
  t: Test,
  entryBy: Implementation,
  exitBy: Implementation,
  transport: Transport = 'tcp',
): Promise<void> {
  const lab = await startLab(entryBy, exitBy, transport);
  t.teardown(() => lab.stop());
  await until(async () => ((await lab.entry.stats()).carriers['exit']?.idle ?? 0) >= 8, 'links are warm');
  if (transport === 'kcp') {
    await until(
      async () => (await lab.entry.stats()).kcp['exit']?.state === 'up',
      'the exit answers over KCP',
    );
  }

  await t.test('each says what it is, and what the carriers run on', async (t) => {
    t.equal((await lab.entry.stats()).implementation, entryBy);
    t.equal((await lab.exit.stats()).implementation, exitBy);
    t.match((await lab.entry.stats()).congestionControl, /^(bbr|cubic|reno)$/);
  });

  for (const family of [4, 6] as const) {
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
      t.equal(await failure(lab.dial(server, 5_009)), 'ECONNRESET');
    });

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

    await t.test(`${name}: a transparent dial goes on when the client's port is taken`, async (t) => {
      const ports: number[] = [];
      const listener = await lab.serve(family, 7_020, (socket) => {
        ports.push(socket.remotePort ?? 0);
        socket.on('data', () => socket.end('y'));
      });
      // Somebody at the exit has the very connection the client's address and port would make.
      const squatter = await lab.squat(CLIENT[key], 40_000 + family, server, 7_020);
      await once(squatter, 'connect');
      const client = lab.dial(server, 7_020, 40_000 + family);
      client.end('x');
      t.equal((await readAll(client)).toString(), 'y');
      t.equal(ports[0], 40_000 + family);
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

  if (transport === 'kcp') {
    await t.test('all of that went over UDP', async (t) => {
      t.ok(((await lab.entry.stats()).kcp['exit']?.sentBytes ?? 0) > 50_000_000);
      t.equal((await lab.entry.stats()).carriers['exit']?.reused, 0);
    });
  }

  await t.test('a direct connection to the listener is reset', async (t) => {
    const before = (await lab.entry.stats()).refused.connections;
    t.equal(await failure(lab.dial('10.71.1.1', 61_001)), 'ECONNRESET');
    t.equal((await lab.entry.stats()).refused.connections, before + 1);
  });

  await t.test('carriers that prove nothing are closed, and cost nothing', async (t) => {
    const before = (await lab.entry.stats()).refused.carriers;
    for (const hello of [
      Buffer.from('GET / HTTP/1.0\r\n\r\n'.padEnd(60)),
      Buffer.concat([Buffer.from('ARC1'), randomBytes(48)]),
    ]) {
      const stranger = lab.dial('10.71.1.1', 61_000);
      stranger.write(hello);
      t.match(await failure(stranger), /end|ECONNRESET/);
    }
    await until(async () => (await lab.entry.stats()).refused.carriers >= before + 2, 'both are counted');
  });

  await t.test('a slow reader stops the sender, and memory with it', async (t) => {
    let written = 0;
    const listener = await lab.serve(4, 5_020, (socket) => {
      const block = Buffer.alloc(65_536);
      const more = (): void => {
        while (!socket.destroyed && written < 400_000_000) {
          written += block.length;
          if (!socket.write(block)) break;
        }
      };
      socket.on('drain', more);
      more();
    });
    const client = lab.dial(SERVER.v4, 5_020);
    client.pause();
    let steady = 0;
    let last = -1;
    await until(() => {
      steady = written === last && written > 0 ? steady + 1 : 0;
      last = written;
      return steady > 10;
    }, 'the sender is held');
    t.ok(written < 200_000_000, `${written} bytes were taken from the sender`);
    resetSocket(client);
    await whenQuiet(lab);
    listener.close();
  });

  await t.test('the bandwidth limit holds in both directions', async (t) => {
    const bytes = 5_000_000;
    // The first burst is free: max(128 KB, 20 ms).
    const least = ((bytes - 200_000) * 8_000) / LIMIT_BITS;
    const sent = randomBytes(bytes);
    const listener = await lab.serve(4, 9_000, (socket) => {
      socket.once('data', (first) => {
        if (first[0] === 0) socket.end(sent);
        else digest(socket).then(() => socket.end('thanks'));
      });
    });
    for (const direction of ['down', 'up']) {
      const start = performance.now();
      const client = lab.dial(SERVER.v4, 9_000);
      if (direction === 'down') {
        client.end(Buffer.of(0));
        t.ok((await readAll(client)).equals(sent));
      } else {
        client.end(Buffer.concat([Buffer.of(1), sent]));
        t.equal((await readAll(client)).toString(), 'thanks');
      }
      const took = performance.now() - start;
      t.ok(took >= least, `${direction}: ${took.toFixed(0)} ms, not under ${least} ms`);
    }
    listener.close();
  });

  await t.test('500 flows at once, each with its own bytes; no descriptor stays', async (t) => {
    await whenQuiet(lab);
    const listener = await lab.serve(4, 5_030, (socket) => socket.pipe(socket));
    const round = async (count: number): Promise<number> => {
      const answers = await Promise.all(
        Array.from({ length: count }, async (_, index) => {
          const sent = createHash('sha512').update(`flow ${index}`).digest();
          const client = lab.dial(SERVER.v4, 5_030);
          for (let times = 0; times < 50; times += 1) client.write(sent);
          client.end();
          const got = await readAll(client);
          return got.length === 50 * 64 && got.subarray(0, 64).equals(sent) && got.subarray(-64).equals(sent);
        }),
      );
      await whenQuiet(lab);
      return answers.filter((right) => right).length;
    };
    /** Descriptors that are not the pool's links. */
    const descriptors = async (host: EngineHost): Promise<number> => {
      const carriers = (await lab.entry.stats()).carriers['exit'];
      return host.descriptors() - (carriers?.idle ?? 0) - (carriers?.leased ?? 0);
    };
    t.equal(await round(500), 500);
    const before = { entry: await descriptors(lab.entry), exit: await descriptors(lab.exit) };
    t.equal(await round(500), 500);
    // Links that are just being made or closed count for a moment.
    await until(
      async () => (await descriptors(lab.entry)) <= before.entry,
      'the entry has closed its descriptors',
    );
    await until(
      async () => (await descriptors(lab.exit)) <= before.exit,
      'the exit has closed its descriptors',
    );
    listener.close();
  });

  await t.test('random traffic: every byte right, every reset seen, nothing hangs', async (t) => {
    const random = createRandom(20_240_601);
    const listener = await lab.serve(4, 5_035, (socket) => {
      // The first byte says what the server does with this flow.
      socket.once('data', (first) => {
        if (first[0] === 1) setTimeout(() => resetSocket(socket), random(30));
        socket.write(first);
        socket.pipe(socket);
      });
    });
    const flow = async (index: number): Promise<string> => {
      const fate = ['echo', 'server resets', 'client resets', 'slow reader'][index % 4];
      const sent = randomBytes(1 + random(400_000));
      sent[0] = fate === 'server resets' ? 1 : 0;
      const client = lab.dial(SERVER.v4, 5_035);
      const ended = readAll(client);
      ended.catch(() => undefined);
      if (fate === 'slow reader') {
        const halt = (): void => {
          client.pause();
          setTimeout(() => client.resume(), random(20));
        };
        client.on('data', () => random(4) === 0 && halt());
      }
      for (let at = 0; at < sent.length && !client.destroyed; ) {
        const size = random(3) === 0 ? 1 + random(3) : 1 + random(60_000);
        client.write(sent.subarray(at, at + size));
        at += size;
        if (random(3) === 0) await sleep(random(5));
        if (fate === 'client resets' && at > sent.length / 2) {
          resetSocket(client);
          return fate;
        }
      }
      client.end();
      try {
        const got = await ended;
        return got.equals(sent) ? 'echo' : `${fate}: ${got.length} of ${sent.length} bytes`;
      } catch {
        return fate === 'server resets' ? fate : `${fate} was reset`;
      }
    };
    const outcomes = await Promise.all(Array.from({ length: 120 }, (_, index) => flow(index)));
    const wrong = outcomes.filter((outcome) => !['echo', 'server resets', 'client resets'].includes(outcome));
    t.same(wrong, []);
    await whenQuiet(lab);
    listener.close();
  });

  await t.test('a renewed session drains: open flows go on, new ones use the new key', async (t) => {
    const listener = await lab.serve(4, 5_040, (socket) => socket.pipe(socket));
    const old = lab.sessionId();
    const client = lab.dial(SERVER.v4, 5_040);
    client.write('before');
    t.equal(String(await once(client, 'data')), 'before');
    await lab.agree();
    await lab.retire('exit', old, 'renewed');
    await lab.retire('entry', old, 'renewed');
    client.write('after');
    t.equal(String(await once(client, 'data')), 'after');
    const fresh = lab.dial(SERVER.v4, 5_040);
    fresh.end('fresh');
    t.equal((await readAll(fresh)).toString(), 'fresh');
    client.end();
    await readAll(client);
    await whenQuiet(lab);
    listener.close();
  });

  await t.test('a removed peer loses its flows within a second, on either side', async (t) => {
    const listener = await lab.serve(4, 5_050, (socket) => socket.pipe(socket));
    for (const side of ['exit', 'entry'] as const) {
      const client = lab.dial(SERVER.v4, 5_050);
      client.write('x');
      await once(client, 'data');
      const start = performance.now();
      const ended = failure(client);
      await lab.retire(side, lab.sessionId(), 'removed');
      t.equal(await ended, 'ECONNRESET');
      t.ok(performance.now() - start < 1_000, `${side}: after ${(performance.now() - start).toFixed(0)} ms`);
      await lab.retire(side === 'exit' ? 'entry' : 'exit', lab.sessionId(), 'removed');
      await lab.agree();
    }
    const again = lab.dial(SERVER.v4, 5_050);
    again.end('again');
    t.equal((await readAll(again)).toString(), 'again', 'a new handshake brings the peer back');
    listener.close();
  });

  await t.test(
    'started again with short times: keys change in mid-flow, idle links live and are trimmed',
    async (t) => {
      for (const side of ['exit', 'entry'] as const) {
        await lab.restart(side, {
          link: { handshakeTimeout: 5_000, rekeyFrames: 3, rekeyAfter: 3_600_000 },
          pool: { warm: 2, pingEvery: 800, idleTimeout: 600 },
          silenceTimeout: 2_400,
        });
      }
      const listener = await lab.serve(4, 5_055, (socket) => socket.pipe(socket));
      const sent = randomBytes(3_000_000);
      const answers = await Promise.all(
        Array.from({ length: 10 }, () => {
          const client = lab.dial(SERVER.v4, 5_055);
          client.end(sent);
          return readAll(client);
        }),
      );
      t.ok(answers.every((answer) => answer.equals(sent)));
      await whenQuiet(lab);
      const carriers = async () => (await lab.entry.stats()).carriers['exit'];
      await until(async () => (await carriers())?.idle === 2, 'idle links are trimmed to the warm ones');
      const { dialed } = (await carriers()) ?? { dialed: 0 };
      await sleep(3_500);
      t.equal((await carriers())?.dialed, dialed, 'PING keeps idle links alive on both sides');
      listener.close();
    },
  );

  await t.test('flows die with the exit, and new ones work when it is back or are reset', async (t) => {
    const listener = await lab.serve(4, 5_060, (socket) => socket.pipe(socket));
    const client = lab.dial(SERVER.v4, 5_060);
    client.write('x');
    await once(client, 'data');
    const ended = failure(client);
    await lab.exit.kill();
    t.equal(await ended, 'ECONNRESET');
    t.equal(await failure(lab.dial(SERVER.v4, 5_060)), 'ECONNRESET', 'after waiting for a link');
    listener.close();
  });

  await t.test('stop closes the listeners and every descriptor it opened', async (t) => {
    await lab.entry.call({ verb: 'stop', graceMs: 100 });
    t.match(await failure(lab.dial(SERVER.v4, 5_000)), /ECONN|EHOST|ENET|ETIMEDOUT/);
    t.match((await lab.entry.stats()).carriers, {});
  });
}
