/**
 * What is left of a connection whose agent dies in the middle. The kernel closes the sockets of a process that is killed, with
 * FIN unless told otherwise; to a client or a server that would be the orderly end of everything.
 */
import { once } from 'node:events';
import type { Socket } from 'node:net';
import t from 'tap';
import { failure, readAll } from '../../unit/engines/tproxy/stream-ends.ts';
import type { Implementation } from './engine-process.ts';
import { type Lab, SERVER, startLab } from './lab.ts';

/** Both ends of a connection over which something has gone both ways. */
async function middle(lab: Lab, port: number): Promise<readonly [client: Socket, server: Socket]> {
  let accepted: Socket | undefined;
  await lab.serve(4, port, (socket) => {
    accepted = socket;
    socket.once('data', () => socket.write('the first half'));
  });
  const client = lab.dial(SERVER.v4, port);
  client.write('the request');
  await once(client, 'data');
  if (accepted === undefined) throw new Error('nobody was accepted');
  return [client, accepted];
}

for (const implementation of ['native', 'typescript'] as const satisfies readonly Implementation[]) {
  for (const side of ['entry', 'exit'] as const) {
    t.test(`${implementation}: the ${side} is killed`, async (t) => {
      const lab = await startLab(implementation, implementation);
      t.teardown(() => lab.stop());
      await lab.serve(4, 5_001, (socket) => socket.end('all of it'));
      await lab.serve(4, 5_002, (socket) => socket.end('all of it'));
      const whole = lab.dial(SERVER.v4, 5_001);
      whole.end();
      t.equal((await readAll(whole)).toString(), 'all of it', 'one that ends before is whole');
      const half = lab.dial(SERVER.v4, 5_002);
      t.equal((await readAll(half)).toString(), 'all of it', 'so is the half of one that has ended before');
      const [client, server] = await middle(lab, 5_003);

      const ends = [failure(client), failure(server)];
      await lab[side].kill();
      t.same(await Promise.all(ends), ['ECONNRESET', 'ECONNRESET'], 'both see that it was cut off');
      half.destroy();
    });
  }
}
