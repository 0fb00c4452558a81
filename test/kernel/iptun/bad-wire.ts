/**
 * A wire that loses, doubles and holds back datagrams, as a process of its own in the namespace between two hosts:
 *   bad-wire.ts <port> <own address facing a> <address of a> <own address facing b> <address of b>
 * Prints {} when it carries.
 */

import { randomInt } from 'node:crypto';
import { createSocket, type Socket } from 'node:dgram';

const [port = '0', facingA = '', a = '', facingB = '', b = ''] = process.argv.slice(2);
/** Out of 1,000 datagrams. */
const LOST = 5;
const DOUBLED = 10;
const HELD_BACK = 30;
const MOST_DELAY_MS = 4;

const open = (address: string): Promise<Socket> =>
  new Promise((resolve) => {
    const socket = createSocket({ type: 'udp4', recvBufferSize: 4 << 20, sendBufferSize: 4 << 20 });
    socket.bind(Number(port), address, () => resolve(socket));
  });

const [towardsA, towardsB] = [await open(facingA), await open(facingB)];

function carry(from: Socket, out: Socket, to: string): void {
  const send = (bytes: Buffer): void => out.send(bytes, Number(port), to, () => undefined);
  from.on('message', (bytes) => {
    const luck = randomInt(1_000);
    if (luck < LOST) return;
    if (luck < LOST + HELD_BACK) setTimeout(send, 1 + randomInt(MOST_DELAY_MS), bytes);
    else send(bytes);
    if (luck >= 1_000 - DOUBLED) send(bytes);
  });
}

carry(towardsA, towardsB, b);
carry(towardsB, towardsA, a);
process.stdout.write('{}\n');
