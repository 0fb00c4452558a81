/** The add-on's calls on devices, limits and namespaces, and that test namespaces go away whatever happens. */
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync, readSync, writeSync } from 'node:fs';
import { type AddressInfo, createServer, Socket, type SocketConstructorOpts } from 'node:net';
import t from 'tap';
import { createKernel } from '../../src/kernel/kernel.ts';
import { loadAddon, READABLE, SystemCallError } from '../../src/native/addon.ts';
import {
  openDialer,
  openListener,
  readCongestionControl,
  readMark,
  tuneSocket,
} from '../../src/native/transparent.ts';
import { makeNetns } from './netns.ts';

const addon = loadAddon();

t.test('a TUN device carries packets both ways and goes with its descriptor', async (t) => {
  const name = `tun-${process.pid}`;
  t.equal(addon.openTun('', 0), -22);
  t.equal(addon.openTun('a-name-of-16-byte', 0), -22);
  const fd = addon.openTun(name, 0);
  t.ok(fd > 0);
  const index = addon.interfaceIndex(name);
  t.ok(index > 0);
  t.equal(addon.openTun(name, 0), -16, 'one holder');
  // In a namespace of its own, so that the host sees no address.
  const netns = await makeNetns('tun');
  t.teardown(() => netns.remove());
  execFileSync('ip', ['link', 'set', name, 'netns', netns.name]);
  const kernel = createKernel({ netnsPath: netns.path });
  await kernel.start();
  t.teardown(() => kernel.stop());
  const link = (await kernel.rt.links()).find((each) => each.name === name);
  t.match(link, { kind: 'tun', up: false });
  await kernel.rt.addAddress(link?.index ?? 0, '10.77.0.1/24');
  await kernel.rt.setLink(link?.index ?? 0, { up: true, mtu: 1300 });
  t.match(
    (await kernel.rt.links()).find((each) => each.name === name),
    { up: true, mtu: 1300 },
  );

  // An echo request into the device is answered out of it.
  const request = Buffer.from('4500001c000040004001000000000000000000000800f7fd00010001', 'hex');
  request.set([10, 77, 0, 2], 12);
  request.set([10, 77, 0, 1], 16);
  request.writeUInt16BE(checksum(request.subarray(0, 20)), 10);
  const answered = new Promise<Buffer>((resolve) => {
    const slot = addon.pollStart(fd, READABLE, () => {
      const packet = Buffer.alloc(2048);
      const length = readSync(fd, packet);
      if (packet.readUInt8(0) >> 4 !== 4) return;
      addon.pollStop(slot);
      resolve(packet.subarray(0, length));
    });
  });
  writeSync(fd, request);
  const answer = await answered;
  t.equal(answer.readUInt8(20), 0, 'echo reply');
  t.strictSame([...answer.subarray(12, 20)], [10, 77, 0, 1, 10, 77, 0, 2]);
  addon.close(fd);
  t.notOk((await kernel.rt.links()).some((each) => each.name === name));
});

/** RFC 1071. */
function checksum(bytes: Buffer): number {
  let sum = 0;
  for (let at = 0; at < bytes.length; at += 2) sum += bytes.readUInt16BE(at);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >> 16);
  return ~sum & 0xffff;
}

t.test('socket options reach accepted sockets, and a refusal says which', async (t) => {
  const options = {
    mark: 0x1234,
    congestionControl: 'reno',
    sendBuffer: 1 << 20,
    receiveBuffer: 1 << 20,
  } as const;
  const listener = openListener(addon, { address: '127.0.0.1', port: 0, transparent: true, ...options });
  const server = createServer();
  server.listen({ fd: listener });
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  const dialer = openDialer(addon, {
    sourceAddress: '127.0.0.5',
    transparent: true,
    notSentLowWater: 65_536,
    userTimeout: 5000,
  });
  const init: SocketConstructorOpts & { readonly manualStart: boolean } = { fd: dialer, manualStart: true };
  const client = new Socket(init).connect({ host: '127.0.0.1', port });
  const [accepted] = (await once(server, 'connection')) as [Socket];
  // Node has no public way to a socket's descriptor; the handle's getter is what the engine uses as well.
  const fd = (accepted as unknown as { readonly _handle: { readonly fd: number } })._handle.fd;
  t.equal(readMark(addon, fd), 0x1234);
  t.equal(readCongestionControl(addon, fd), 'reno');
  const info = addon.tcpInfo(fd);
  t.match(info, { state: 1 });
  t.ok(typeof info === 'object' && info.sendMss > 500);
  t.equal(accepted.remoteAddress, '127.0.0.5');
  t.throws(() => tuneSocket(addon, fd, { congestionControl: 'no_such_control' }), {
    code: 'ENOENT',
    syscall: 'setsockopt',
  });
  client.destroy();
  accepted.destroy();
  server.close();
  t.throws(() => openListener(addon, { address: '192.0.2.1', port: 1 }), SystemCallError);
  t.throws(() => openListener(addon, { address: '127.0.0.1', port: 0, netnsPath: '/run/netns/none' }), {
    code: 'ENOENT',
  });
  t.equal(addon.tcpInfo(987_654), -9);
});

t.test('the limit of open files is raised, never lowered', async (t) => {
  const now = addon.raiseFileLimit(0);
  t.equal(addon.raiseFileLimit(10), now);
  const most = addon.raiseFileLimit(1_000_000_000);
  t.ok(most >= now);
  t.equal(addon.raiseFileLimit(1_000_000_000), most);
});

t.test('opening a socket elsewhere leaves this thread where it was', async (t) => {
  const here = () => readFileSync('/proc/thread-self/net/dev', 'utf8').split('\n').length;
  const netns = await makeNetns('visit');
  t.teardown(() => netns.remove());
  const before = here();
  for (let round = 0; round < 50; round += 1) {
    addon.close(addon.socketInNamespace(netns.path, 2, 1, 0));
    t.equal(addon.socketInNamespace('/run/netns/none', 2, 1, 0), -2);
    t.equal(addon.socketInNamespace('/proc/self/status', 2, 1, 0), -22, 'no namespace');
    t.equal(addon.openInNamespace(netns.path, '/proc/sys/net/none', 0), -2);
  }
  t.equal(here(), before);
});

t.test('namespaces of a test process go away with it, and those of a killed one with the next', async (t) => {
  const module = new URL('./netns.ts', import.meta.url).href;
  const code = `import(${JSON.stringify(module)}).then(async ({ makeNetns }) => {
    console.log((await makeNetns('crash')).path);
    setInterval(() => {}, 1000);
  });`;
  for (const signal of ['SIGTERM', 'SIGKILL'] as const) {
    const child = spawn(process.execPath, ['--import=tsx', '--eval', code], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const [line] = (await once(child.stdout, 'data')) as [Buffer];
    const path = line.toString().trim();
    t.ok(existsSync(path), path);
    child.kill(signal);
    await once(child, 'exit');
    if (signal === 'SIGKILL') {
      const sweep = `import(${JSON.stringify(module)}).then(({ sweepStaleNamespaces }) => sweepStaleNamespaces());`;
      execFileSync(process.execPath, ['--import=tsx', '--eval', sweep]);
    }
    t.notOk(existsSync(path), `removed after ${signal}`);
  }
});
