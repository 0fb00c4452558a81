/**
 * Traffic from inside a namespace; one line of JSON when done.
 *   serve <port>                        echoes UDP and answers TCP with the SHA-256 of what came; prints {} when ready
 *   udp <address> <port> <count> <gapMicroseconds>
 *                                       sends datagrams of many sizes with checksums, counts their echoes
 *   tcp <address> <port> <megabytes>    sends random bytes, compares the digest that comes back
 *   reach <address>                     pings until one is answered
 *   ping <address> <size,...> <do|want> <count>
 */
import { createHash, randomBytes } from 'node:crypto';
import { createSocket } from 'node:dgram';
import { connect, createServer, isIPv6 } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { errnoName, loadAddon, systemCall } from '../../../src/native/addon.ts';
import { hostInt } from '../../../src/native/byte-order.ts';
import { encodeSockaddr } from '../../../src/native/sockaddr.ts';

const [verb = '', ...args] = process.argv.slice(2);
const say = (value: object): void => {
  process.stdout.write(`${JSON.stringify(value)}\n`);
};

async function serve(port: number): Promise<void> {
  const udp = createSocket({ type: 'udp6', recvBufferSize: 4 << 20 });
  udp.on('message', (bytes, from) => udp.send(bytes, from.port, from.address));
  udp.bind(port, '::');
  const tcp = createServer({ allowHalfOpen: true }, (socket) => {
    const digest = createHash('sha256');
    socket.on('data', (bytes) => digest.update(bytes));
    socket.on('end', () => socket.end(digest.digest()));
    socket.on('error', () => socket.destroy());
  });
  tcp.listen(port, '::', () => say({}));
}

/** Sequence number, then bytes that follow from it, then their digest. */
function datagram(sequence: number, size: number): Buffer {
  const bytes = Buffer.alloc(Math.max(24, size), sequence & 0xff);
  bytes.writeUInt32BE(sequence, 0);
  for (let at = 4; at + 4 <= bytes.length - 16; at += 64)
    bytes.writeUInt32BE(Math.imul(sequence, 2_654_435_761) >>> 0, at);
  createHash('md5')
    .update(bytes.subarray(0, bytes.length - 16))
    .digest()
    .copy(bytes, bytes.length - 16);
  return bytes;
}

const sound = (bytes: Buffer): boolean =>
  bytes.length >= 24 &&
  createHash('md5')
    .update(bytes.subarray(0, bytes.length - 16))
    .digest()
    .equals(bytes.subarray(bytes.length - 16));

async function udp(address: string, port: number, count: number, gap: number): Promise<void> {
  const socket = createSocket({ type: isIPv6(address) ? 'udp6' : 'udp4', recvBufferSize: 4 << 20 });
  let bad = 0;
  const seen = new Set<number>();
  socket.on('message', (bytes) => {
    if (!sound(bytes)) bad += 1;
    else seen.add(bytes.readUInt32BE(0));
  });
  await new Promise<void>((resolve) => {
    socket.connect(port, address, resolve);
  });
  const sizes = [24, 64, 64, 64, 200, 512, 1200, 1372, 1400, 1408];
  for (let sequence = 0; sequence < count; sequence += 1) {
    socket.send(datagram(sequence, sizes[sequence % sizes.length] ?? 64), () => undefined);
    if (sequence % 20 === 19) await sleep((gap * 20) / 1000);
  }
  for (let waited = 0; waited < 20 && seen.size < count; waited += 1) await sleep(50);
  socket.close();
  say({ sent: count, received: seen.size, bad });
}

async function tcp(address: string, port: number, megabytes: number): Promise<void> {
  const socket = connect({ host: address, port, allowHalfOpen: true });
  const digest = createHash('sha256');
  const chunk = randomBytes(1 << 20);
  const begun = performance.now();
  const answer: Buffer[] = [];
  socket.on('data', (bytes) => answer.push(bytes as Buffer));
  const ended = new Promise<void>((resolve, reject) => {
    socket.on('end', resolve);
    socket.on('error', reject);
  });
  for (let sent = 0; sent < megabytes; sent += 1) {
    chunk.writeUInt32BE(sent, 0);
    digest.update(chunk);
    if (!socket.write(Buffer.from(chunk))) await new Promise((resolve) => socket.once('drain', resolve));
  }
  socket.end();
  await ended;
  const milliseconds = performance.now() - begun;
  const same = Buffer.concat(answer).equals(digest.digest());
  say({ same, megabitsPerSecond: Math.round((megabytes * 8 * 1.048_576) / (milliseconds / 1000)) });
}

const SOCK_RAW = 3;
const IPPROTO_ICMP = 1;
const IPPROTO_ICMPV6 = 58;

function checksum(bytes: Buffer): number {
  let sum = 0;
  for (let at = 0; at < bytes.length; at += 2) sum += bytes.readUInt16BE(at);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return ~sum & 0xffff;
}

async function ping(
  address: string,
  sizes: readonly number[],
  discovery: string,
  count: number,
  enough = count,
): Promise<void> {
  const addon = loadAddon();
  const ipv6 = isIPv6(address);
  const fd = systemCall(
    'socket',
    addon.socket(ipv6 ? 10 : 2, SOCK_RAW | 0o4000, ipv6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP),
  );
  // IP_PMTUDISC_DO is 2, WANT is 1; IP_MTU_DISCOVER is 10, IPV6_MTU_DISCOVER 23.
  addon.setsockopt(fd, ipv6 ? 41 : 0, ipv6 ? 23 : 10, hostInt(discovery === 'do' ? 2 : 1));
  systemCall('connect', addon.connect(fd, encodeSockaddr(address, 0)));
  const id = process.pid & 0xffff;
  let received = 0;
  let bad = 0;
  const refused: string[] = [];
  const room = Buffer.alloc(70_000);
  for (let sequence = 0; sequence < count && received < enough; sequence += 1) {
    const payload = randomBytes(sizes[sequence % sizes.length] ?? 0);
    const message = Buffer.concat([Buffer.from([ipv6 ? 128 : 8, 0, 0, 0, 0, 0, 0, 0]), payload]);
    message.writeUInt16BE(id, 4);
    message.writeUInt16BE(sequence, 6);
    if (!ipv6)
      message.writeUInt16BE(
        checksum(message.length % 2 === 0 ? message : Buffer.concat([message, Buffer.alloc(1)])),
        2,
      );
    const sent = addon.send(fd, message, 0);
    if (sent < 0) {
      refused.push(errnoName(-sent));
      await sleep(20);
      continue;
    }
    for (let waited = 0, answered = false; waited < 200 && !answered; waited += 1) {
      const got = addon.recv(fd, room, 0);
      if (got < 0) {
        await sleep(5);
        continue;
      }
      const at = ipv6 ? 0 : ((room[0] ?? 0) & 15) * 4;
      if (room[at] !== (ipv6 ? 129 : 0) || room.readUInt16BE(at + 4) !== id) continue;
      if (room.readUInt16BE(at + 6) !== sequence) continue;
      answered = true;
      received += 1;
      if (!room.subarray(at + 8, got).equals(payload)) bad += 1;
    }
  }
  addon.close(fd);
  say({ sent: count, received, bad, refused });
}

const [first = '', second = '0', third = '0', fourth = '0'] = args;
if (verb === 'serve') await serve(Number(first));
else if (verb === 'udp') await udp(first, Number(second), Number(third), Number(fourth));
else if (verb === 'tcp') await tcp(first, Number(second), Number(third));
else if (verb === 'ping') await ping(first, second.split(',').map(Number), third, Number(fourth));
else if (verb === 'reach') await ping(first, [56], 'want', 20, 1);
else throw new Error(`no such traffic: ${verb}`);
