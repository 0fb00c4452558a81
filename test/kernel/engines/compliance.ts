/**
 * What every implementation of the TCP engine must do, on a real kernel. Runs with one implementation at the entry
 * and one, the same or another, at the exit.
 */
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Test } from 'tap';
import type { FlowView } from '../../../src/engines/tproxy/contract.ts';
import { digest, failure, readAll, resetSocket, until } from '../../unit/engines/tproxy/stream-ends.ts';
import { runFamilyCompliance } from './compliance-family.ts';
import { runLifeCompliance } from './compliance-life.ts';
import type { Implementation } from './engine-process.ts';
import { type EngineHost, LIMIT_BITS, SERVER, startLab, type Transport } from './lab.ts';
import { whenQuiet } from './quiet.ts';

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

  for (const family of [4, 6] as const) await runFamilyCompliance(t, lab, family);

  if (transport === 'kcp') {
    await t.test('all of that went over UDP', async (t) => {
      // The relay counts a line's bytes a few times a second.
      await until(
        async () => ((await lab.entry.stats()).kcp['exit']?.sentBytes ?? 0) > 50_000_000,
        'what was sent is counted',
      );
      t.equal((await lab.entry.stats()).carriers['exit']?.reused, 0, 'no carrier of TCP has had a flow');
    });

    await t.test('both sides see how a connection fares', async (t) => {
      await lab.serve(4, 5_900, (socket) => socket.pipe(socket));
      const client = lab.dial(SERVER.v4, 5_900);
      client.write('hello');
      await once(client, 'data');
      for (const host of [lab.entry, lab.exit]) {
        const flows = (await host.call({ verb: 'flows' })) as readonly FlowView[];
        const path = flows.find(({ destination }) => destination.port === 5_900)?.path;
        t.match(path, { transport: 'kcp', congestionControl: null });
        t.ok((path?.rttMs ?? 0) > 0 && (path?.leastRttMs ?? 0) > 0, 'the round trip is measured');
        t.ok((path?.bytesSent ?? 0) > 0, 'what is sent is counted');
        t.ok((path?.loss ?? 0) < 0.5, 'and what is lost, once the peer has told');
      }
      client.destroy();
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

  await runLifeCompliance(t, lab);
}
