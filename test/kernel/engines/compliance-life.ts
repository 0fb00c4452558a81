/** What every implementation must do over its life: keys renewed and withdrawn, short times, a peer that dies, its own end. */
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Test } from 'tap';
import type { TproxyConfig } from '../../../src/engines/tproxy/contract.ts';
import { failure, readAll, resetSocket, until } from '../../unit/engines/tproxy/stream-ends.ts';
import { type Lab, SERVER, SERVICES } from './lab.ts';
import { whenQuiet } from './quiet.ts';

/** The last of all: both engines are gone after it. */
export async function runLifeCompliance(t: Test, lab: Lab): Promise<void> {
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

  await t.test(
    'a session that the other end has forgotten does not hold up flows once there is another',
    async (t) => {
      const listener = await lab.serve(4, 5_041, (socket) => socket.pipe(socket));
      const old = lab.sessionId();
      await lab.retire('exit', old, 'removed');
      // A link that is closed just when a flow begins on it would take that along.
      const idle = async (): Promise<number> => (await lab.entry.stats()).carriers['exit']?.idle ?? 0;
      await until(async () => (await idle()) === 0, 'the links under the old session are gone');
      await lab.agree();
      const started = performance.now();
      const client = lab.dial(SERVER.v4, 5_041);
      client.end('x');
      t.equal((await readAll(client)).toString(), 'x');
      t.comment(`after ${(performance.now() - started).toFixed(0)} ms`);
      await lab.retire('entry', old, 'renewed');
      await whenQuiet(lab);
      listener.close();
    },
  );

  await t.test(
    'a service that is no longer transparent ends its connections, and takes new ones',
    async (t) => {
      const listener = await lab.serve(4, 7_040, (socket) => socket.pipe(socket));
      const client = lab.dial(SERVER.v4, 7_040);
      client.write('x');
      await once(client, 'data');
      const ended = failure(client);
      const before = (await lab.exit.call({ verb: 'configured' })) as TproxyConfig;
      const exits = before.exits.map((service) => ({ ...service, fullyTransparent: false }));
      await lab.exit.call({ verb: 'configure', config: { ...before, exits } });
      t.equal(await ended, 'ECONNRESET', 'replies to the address of the client would find nobody');
      const next = lab.dial(SERVER.v4, 7_040);
      next.end('next');
      t.equal((await readAll(next)).toString(), 'next');
      await lab.exit.call({ verb: 'configure', config: before });
      await whenQuiet(lab);
      listener.close();
    },
  );

  await t.test(
    'a removed peer loses its flows within a second, on either side, and those of sessions before, too',
    async (t) => {
      const listener = await lab.serve(4, 5_050, (socket) => socket.pipe(socket));
      for (const side of ['exit', 'entry'] as const) {
        const client = lab.dial(SERVER.v4, 5_050);
        client.write('x');
        await once(client, 'data');
        // It stays on what was made under the session before.
        const old = lab.sessionId();
        await lab.agree();
        await lab.retire('exit', old, 'renewed');
        await lab.retire('entry', old, 'renewed');
        const start = performance.now();
        const ended = failure(client);
        await lab.retire(side, lab.sessionId(), 'removed');
        t.equal(await ended, 'ECONNRESET');
        t.ok(
          performance.now() - start < 1_000,
          `${side}: after ${(performance.now() - start).toFixed(0)} ms`,
        );
        await lab.retire(side === 'exit' ? 'entry' : 'exit', lab.sessionId(), 'removed');
        await lab.agree();
      }
      const again = lab.dial(SERVER.v4, 5_050);
      again.end('again');
      t.equal((await readAll(again)).toString(), 'again', 'a new handshake brings the peer back');
      listener.close();
    },
  );

  await t.test('a connection whose client leaves before a link could be had has failed', async () => {
    for (const side of ['exit', 'entry'] as const) await lab.retire(side, lab.sessionId(), 'removed');
    const counted = async () => (await lab.entry.stats()).services[SERVICES.plain.id]?.entry;
    const before = (await counted())?.failed ?? 0;
    const client = lab.dial(SERVER.v4, 5_051);
    await until(async () => (await counted())?.active === 1, 'it waits');
    resetSocket(client);
    await until(async () => (await counted())?.failed === before + 1, 'it is counted');
    await lab.agree();
    await whenQuiet(lab);
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
