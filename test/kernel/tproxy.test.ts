/** Client, router and server on separate links: the router's listener takes the client's connections to the server. */
import { once } from 'node:events';
import { type AddressInfo, createServer, type Server, Socket, type SocketConstructorOpts } from 'node:net';
import t, { type Test } from 'tap';
import type { Kernel, NftTable } from '../../src/kernel/contract.ts';
import { createKernel } from '../../src/kernel/kernel.ts';
import {
  IPPROTO_TCP,
  matchL4Protocol,
  setMark,
  tproxyTo,
  verdict,
} from '../../src/kernel/nft/expressions.ts';
import { loadAddon } from '../../src/native/addon.ts';
import { openDialer, openListener } from '../../src/native/transparent.ts';
import { established, LOCAL, NO_LISTENER } from './compliance/example-table.ts';
import { joinByVeth, makeSpaces, type Netns } from './netns.ts';

const addon = loadAddon();
const MARK = 0x77;
const TABLE = 1000;
const PORT = 17_000;

const redirection: NftTable = {
  family: 'inet',
  name: 'arctic',
  sets: [],
  chains: [
    {
      name: 'prerouting',
      base: { type: 'filter', hook: 'prerouting', priority: -150, policy: 'accept' },
      rules: [
        established(MARK),
        LOCAL,
        {
          comment: 'to the engine',
          expressions: [
            ...matchL4Protocol(IPPROTO_TCP),
            ...tproxyTo(PORT),
            ...setMark(MARK),
            verdict('accept'),
          ],
        },
        NO_LISTENER,
      ],
    },
  ],
};

interface Lab {
  readonly client: Netns;
  readonly router: Netns;
  readonly server: Netns;
  readonly kernel: Kernel;
}

async function makeLab(t: Test): Promise<Lab> {
  const [client, router, server] = await makeSpaces(t, 'client', 'router', 'server');
  await joinByVeth(
    { netns: client, name: 'uplink', addresses: ['10.1.0.2/24', 'fd01::2/64'] },
    { netns: router, name: 'downlink', addresses: ['10.1.0.1/24', 'fd01::1/64'] },
  );
  await joinByVeth(
    { netns: router, name: 'wan0', addresses: ['10.2.0.1/24', 'fd02::1/64'] },
    { netns: server, name: 'uplink', addresses: ['10.2.0.2/24', 'fd02::2/64'] },
  );
  for (const [netns, four, six] of [
    [client, '10.1.0.1', 'fd01::1'],
    [server, '10.2.0.1', 'fd02::1'],
  ] as const) {
    await netns.exec('ip', 'route', 'add', 'default', 'via', four);
    await netns.exec('ip', '-6', 'route', 'add', 'default', 'via', six);
  }
  const kernel = createKernel({ netnsPath: router.path });
  await kernel.start();
  t.teardown(() => kernel.stop());
  await kernel.sysctl.write('net.ipv4.ip_forward', '1');
  await kernel.sysctl.write('net.ipv6.conf.all.forwarding', '1');
  const lo = (await kernel.rt.links()).find((link) => link.name === 'lo')?.index ?? 0;
  for (const family of ['ipv4', 'ipv6'] as const) {
    const destination = family === 'ipv4' ? '0.0.0.0/0' : '::/0';
    await kernel.rt.addRoute({ family, table: TABLE, type: 'local', destination, oif: lo });
    await kernel.rt.addRule({ family, priority: 100, table: TABLE, fwmark: MARK });
  }
  await kernel.nft.replaceTable(redirection);
  return { client, router, server, kernel };
}

async function listen(t: Test, fd: number, onConnection: (socket: Socket) => void): Promise<Server> {
  const server = createServer({ allowHalfOpen: true }, onConnection);
  server.listen({ fd });
  await once(server, 'listening');
  t.teardown(() => server.close());
  return server;
}

function dial(t: Test, fd: number, host: string, port: number): Socket {
  // `manualStart` is Node's own option of a socket on an unconnected descriptor; its types do not list it.
  const options: SocketConstructorOpts & { readonly manualStart: boolean } = {
    fd,
    manualStart: true,
    allowHalfOpen: true,
  };
  const socket = new Socket(options);
  t.teardown(() => socket.destroy());
  return socket.connect({ host, port });
}

async function textOf(socket: Socket): Promise<string> {
  let text = '';
  for await (const chunk of socket.setEncoding('utf8')) text += String(chunk);
  return text;
}

for (const family of [
  { name: 'IPv4', any: '0.0.0.0', client: '10.1.0.2', server: '10.2.0.2', nobody: '203.0.113.77' },
  { name: 'IPv6', any: '::', client: 'fd01::2', server: 'fd02::2', nobody: '2001:db8::77' },
] as const) {
  t.test(
    `${family.name}: the listener sees client and destination, the server sees the client`,
    async (t) => {
      const { client, router, server } = await makeLab(t);
      const remote = await listen(
        t,
        openListener(addon, { netnsPath: server.path, address: family.any, port: 0 }),
        (socket) => socket.end(`server saw ${socket.remoteAddress}`),
      );
      const port = (remote.address() as AddressInfo).port;
      const seen: string[] = [];
      const proxy = openListener(addon, {
        netnsPath: router.path,
        address: family.any,
        port: PORT,
        transparent: true,
      });
      await listen(t, proxy, (socket) => {
        seen.push(`${socket.remoteAddress} -> ${socket.localAddress} ${socket.localPort}`);
        if (socket.localAddress !== family.server) {
          socket.end('proxy');
          return;
        }
        const source = { netnsPath: router.path, sourceAddress: family.client, transparent: true };
        const onward = dial(t, openDialer(addon, source), family.server, socket.localPort ?? 0);
        onward.pipe(socket);
        socket.pipe(onward);
      });

      const connect = (host: string, to: number) =>
        dial(t, openDialer(addon, { netnsPath: client.path, sourceAddress: family.client }), host, to);
      const first = connect(family.server, port);
      first.end();
      t.equal(await textOf(first), `server saw ${family.client}`);
      const second = connect(family.nobody, 4444);
      second.end();
      t.equal(await textOf(second), 'proxy', 'an address nobody owns');
      t.strictSame(seen, [
        `${family.client} -> ${family.server} ${port}`,
        `${family.client} -> ${family.nobody} 4444`,
      ]);
    },
  );

  t.test(`${family.name}: without a listener the client is refused at once`, async (t) => {
    const { client } = await makeLab(t);
    const source = { netnsPath: client.path, sourceAddress: family.client };
    const socket = dial(t, openDialer(addon, source), family.server, 8080);
    const [error] = (await once(socket, 'error')) as [NodeJS.ErrnoException];
    t.equal(error.code, 'ECONNREFUSED');
  });

  t.test(`${family.name}: the client's own port can be kept`, async (t) => {
    const { router, server } = await makeLab(t);
    const remote = await listen(
      t,
      openListener(addon, { netnsPath: server.path, address: family.any, port: 0 }),
      (socket) => socket.end(`${socket.remoteAddress} ${socket.remotePort}`),
    );
    const source = {
      netnsPath: router.path,
      sourceAddress: family.client,
      sourcePort: 23_333,
      transparent: true,
    };
    const socket = dial(t, openDialer(addon, source), family.server, (remote.address() as AddressInfo).port);
    socket.end();
    t.equal(await textOf(socket), `${family.client} 23333`);
  });
}
