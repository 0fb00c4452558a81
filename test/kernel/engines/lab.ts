/**
 * client -- entry == exit -- server, each a network namespace. The engines are processes inside theirs, so that
 * descriptors and memory are theirs alone; client and server sockets are opened by the test, inside those namespaces.
 */
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { readdirSync } from 'node:fs';
import { createServer, isIPv6, type Server, Socket } from 'node:net';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import type { TproxyConfig, TproxyStats } from '../../../src/engines/tproxy/contract.ts';
import type { RelayOptions } from '../../../src/engines/tproxy/relay-options.ts';
import { loadAddon } from '../../../src/native/addon.ts';
import { openDialer, openListener } from '../../../src/native/transparent.ts';
import { joinByVeth, makeNetns, type Netns } from '../netns.ts';
import type { HostCall, HostReply, Implementation } from './engine-process.ts';

const run = promisify(execFile);
const addon = loadAddon();
const HOST = fileURLToPath(new URL('./engine-process.ts', import.meta.url));

export const CLIENT = { v4: '10.71.1.2', v6: 'fd71:1::2' } as const;
export const EXIT = { v4: '10.71.3.1', v6: 'fd71:3::1' } as const;
export const SERVER = { v4: '10.71.3.2', v6: 'fd71:3::2' } as const;
const ENTRY_LINK = '10.71.2.1';
const EXIT_LINK = '10.71.2.2';
const CARRIER_PORT = 61_000;
const LISTEN_PORT = 61_001;

/** The lab's services are told apart by destination port. */
export const SERVICES = {
  plain: { id: 'svc_plain', mark: 0x4100_0001, ports: '1-6999' },
  transparent: { id: 'svc_transparent', mark: 0x4100_0002, ports: '7000-7999' },
  /** Its routes allow only 10.99.0.0/16 and fd99::/16. */
  narrow: { id: 'svc_narrow', mark: 0x4100_0003, ports: '8000-8999' },
  limited: { id: 'svc_limited', mark: 0x4100_0004, ports: '9000-9999' },
} as const;

export const LIMIT_BITS = 40_000_000;

/** One engine in its namespace. */
export interface EngineHost {
  readonly pid: number;
  call(call: HostCall): Promise<unknown>;
  stats(): Promise<TproxyStats>;
  descriptors(): number;
  kill(): Promise<void>;
}

export interface Lab {
  readonly spaces: {
    readonly client: Netns;
    readonly entry: Netns;
    readonly exit: Netns;
    readonly server: Netns;
  };
  readonly entry: EngineHost;
  readonly exit: EngineHost;
  /** A connecting socket of the client, half-open allowed. */
  dial(address: string, port: number, sourcePort?: number): Socket;
  /** A connection made at the exit from an address and port of somebody else. */
  squat(address: string, port: number, destination: string, destinationPort: number): Promise<Socket>;
  /** A server in the server's namespace, on all addresses of the family. */
  serve(family: 4 | 6, port: number, handle: (socket: Socket) => void): Promise<Server>;
  /** Gives both sides a new session; answers its id. */
  agree(): Promise<string>;
  /** Stops the engine and starts another in the same process, with other options. */
  restart(side: 'entry' | 'exit', options: Partial<RelayOptions>): Promise<void>;
  retire(side: 'entry' | 'exit', sessionId: string, reason: 'renewed' | 'removed'): Promise<void>;
  readonly sessionId: () => string;
  stop(): Promise<void>;
}

async function startHost(netns: Netns, implementation: Implementation): Promise<EngineHost> {
  const child = spawn('ip', [...netns.prefix, process.execPath, '--import=tsx', HOST, implementation], {
    stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
    // For a relay built with a sanitizer: its runtime has to be loaded first.
    env: { ...process.env, LD_PRELOAD: process.env['ENGINE_PRELOAD'] ?? '' },
  });
  const waiting = new Map<number, { resolve: (value: unknown) => void; reject: (error: Error) => void }>();
  let next = 0;
  let exited = false;
  child.on('message', (reply: HostReply) => {
    const one = waiting.get(reply.id);
    waiting.delete(reply.id);
    if (reply.error === undefined) one?.resolve(reply.result);
    else one?.reject(new Error(reply.error));
  });
  child.on('exit', (code, signal) => {
    exited = true;
    for (const one of waiting.values()) one.reject(new Error(`the engine ended: ${code ?? signal}`));
  });
  const call = (request: HostCall): Promise<unknown> =>
    new Promise((resolve, reject) => {
      next += 1;
      waiting.set(next, { resolve, reject });
      child.send({ ...request, id: next });
    });
  // `ip netns exec` replaces itself by the program, so the child's pid is the engine's.
  const pid = child.pid ?? 0;
  return {
    pid,
    call,
    stats: async () => (await call({ verb: 'stats' })) as TproxyStats,
    descriptors: () => readdirSync(`/proc/${pid}/fd`).length,
    async kill() {
      if (exited) return;
      child.kill('SIGKILL');
      await gone(child);
    },
  };
}

async function gone(child: ChildProcess): Promise<void> {
  if (child.exitCode === null && child.signalCode === null) await once(child, 'exit');
}

async function ip(netns: Netns, line: string): Promise<void> {
  await run('ip', ['-n', netns.name, ...line.split(' ')]);
}

async function nft(netns: Netns, rules: string): Promise<void> {
  const child = execFile('ip', [...netns.prefix, 'nft', '-f', '-']);
  let said = '';
  child.stderr?.on('data', (text) => {
    said += text;
  });
  child.stdin?.end(rules);
  await gone(child);
  if (child.exitCode !== 0) throw new Error(`nft: ${said}`);
}

const captureRules = (): string => `
table inet lab {
  chain prerouting {
    type filter hook prerouting priority mangle
    meta l4proto tcp socket transparent 1 socket wildcard 0 meta mark set 0x41d00001 accept
    iifname "c0" tcp dport ${LISTEN_PORT} accept
${Object.values(SERVICES)
  .flatMap(({ mark, ports }) =>
    ['ip', 'ip6'].map(
      (family) =>
        `    iifname "c0" meta nfproto ${family === 'ip' ? 'ipv4' : 'ipv6'} tcp dport ${ports} tproxy ${family} to :${LISTEN_PORT} meta mark set ${mark} accept`,
    ),
  )
  .join('\n')}
  }
  chain input {
    # The mark an accepted connection keeps must not be one that policy routing sends to the local stack.
    type filter hook input priority mangle
    meta mark & 0xfff00000 == 0x41000000 meta mark set meta mark and 0xff0fffff or 0x00c00000
  }
}
`;

const divertRules = `
table inet lab {
  chain prerouting {
    type filter hook prerouting priority mangle
    iifname "s0" meta l4proto tcp socket transparent 1 socket wildcard 0 meta mark set 0x41d00001 accept
  }
}
`;

async function deliverLocally(netns: Netns): Promise<void> {
  for (const family of ['-4', '-6']) {
    const any = family === '-4' ? '0.0.0.0/0' : '::/0';
    await ip(netns, `${family} rule add fwmark 0x41000000/0xfff00000 lookup 4100 priority 4100`);
    await ip(netns, `${family} rule add fwmark 0x41d00000/0xfff00000 lookup 4100 priority 4100`);
    await ip(netns, `${family} route add local ${any} dev lo table 4100`);
  }
}

export type Transport = TproxyConfig['entries'][number]['transport'];

function configs(transport: Transport): { readonly entry: TproxyConfig; readonly exit: TproxyConfig } {
  const services = Object.entries(SERVICES).map(([name, { id, mark }]) => ({
    serviceId: id,
    name,
    mark,
    transport,
    fullyTransparent: name === 'transparent',
    limitBitsPerSecond: name === 'limited' ? LIMIT_BITS : 0,
  }));
  const everything = ['10.71.0.0/16', 'fd71::/16'];
  const little = ['10.99.0.0/16', 'fd99::/16'];
  return {
    entry: {
      entries: services.map((service) => ({ ...service, peerId: 'exit' })),
      exits: [],
      peers: [{ peerId: 'exit', host: EXIT_LINK, port: CARRIER_PORT }],
    },
    exit: {
      entries: [],
      exits: services.map((service) => ({
        ...service,
        peerId: 'entry',
        allowed: (service.name === 'narrow' ? little : everything).map((destination) => ({
          source: null,
          destination,
        })),
      })),
      peers: [{ peerId: 'entry', host: ENTRY_LINK, port: CARRIER_PORT }],
    },
  };
}

/** Builds the namespaces, starts both engines and waits until links are warm. */
export async function startLab(
  entryBy: Implementation,
  exitBy: Implementation,
  transport: Transport = 'tcp',
): Promise<Lab> {
  const [client, entry, exit, server] = await Promise.all(
    ['client', 'entry', 'exit', 'server'].map((label) => makeNetns(label)),
  );
  if (client === undefined || entry === undefined || exit === undefined || server === undefined) {
    throw new Error('the namespaces could not be made');
  }
  const spaces = [client, entry, exit, server];
  const hosts: EngineHost[] = [];
  const sockets = new Set<Socket>();
  const servers = new Set<Server>();
  let sessionId = '';

  function track(fd: number): Socket {
    const socket = new Socket({ fd, allowHalfOpen: true, ...{ manualStart: true } });
    sockets.add(socket);
    socket.on('close', () => sockets.delete(socket));
    return socket;
  }

  async function stop(): Promise<void> {
    for (const socket of sockets) socket.destroy();
    for (const one of servers) one.close();
    await Promise.all(hosts.map((host) => host.kill()));
    for (const space of spaces) space.remove();
  }

  async function agree(): Promise<string> {
    const key = randomBytes(32).toString('hex');
    sessionId = randomBytes(16).toString('hex');
    const [left, right] = hosts;
    await left?.call({ verb: 'session', sessionId, key, peerId: 'exit', initiator: true });
    await right?.call({ verb: 'session', sessionId, key, peerId: 'entry', initiator: false });
    return sessionId;
  }

  try {
    await joinByVeth(
      { netns: client, name: 'e0', addresses: [`${CLIENT.v4}/24`, `${CLIENT.v6}/64`] },
      { netns: entry, name: 'c0', addresses: ['10.71.1.1/24', 'fd71:1::1/64'] },
    );
    await joinByVeth(
      { netns: entry, name: 'x0', addresses: [`${ENTRY_LINK}/24`] },
      { netns: exit, name: 'n0', addresses: [`${EXIT_LINK}/24`] },
    );
    await joinByVeth(
      { netns: exit, name: 's0', addresses: [`${EXIT.v4}/24`, `${EXIT.v6}/64`] },
      { netns: server, name: 'e0', addresses: [`${SERVER.v4}/24`, `${SERVER.v6}/64`] },
    );
    await ip(client, 'route add default via 10.71.1.1');
    await ip(client, '-6 route add default via fd71:1::1');
    await ip(server, 'route add default via 10.71.3.1');
    await ip(server, '-6 route add default via fd71:3::1');
    for (const space of [entry, exit]) {
      await space.exec('sysctl', '-qw', 'net.ipv4.ip_forward=1', 'net.ipv6.conf.all.forwarding=1');
      await deliverLocally(space);
    }
    await nft(entry, captureRules());
    await nft(exit, divertRules);
    hosts.push(await startHost(entry, entryBy), await startHost(exit, exitBy));
    const [left, right] = hosts;
    if (left === undefined || right === undefined) throw new Error('the engines did not start');
    await agree();
    const { entry: entryConfig, exit: exitConfig } = configs(transport);
    const start = async (host: EngineHost, options: Partial<RelayOptions> = {}): Promise<void> => {
      const config = host === left ? entryConfig : exitConfig;
      await host.call({
        verb: 'start',
        config,
        listenPort: LISTEN_PORT,
        carrierPort: CARRIER_PORT,
        options,
      });
    };
    await start(right);
    await start(left);
    return {
      spaces: { client, entry, exit, server },
      entry: left,
      exit: right,
      dial(address, port, sourcePort) {
        const fd = openDialer(addon, {
          ...(sourcePort === undefined ? {} : { sourcePort }),
          sourceAddress: isIPv6(address) ? '::' : '0.0.0.0',
          netnsPath: client.path,
        });
        return track(fd).connect({ host: address, port });
      },
      async serve(family, port, handle) {
        const fd = openListener(addon, {
          address: family === 4 ? '0.0.0.0' : '::',
          port,
          netnsPath: server.path,
        });
        const listener = createServer({ allowHalfOpen: true }, handle);
        servers.add(listener);
        listener.on('connection', (socket) => {
          sockets.add(socket);
          socket.on('error', () => undefined);
          socket.on('close', () => sockets.delete(socket));
        });
        listener.listen({ fd, backlog: 4096 });
        await once(listener, 'listening');
        return listener;
      },
      squat: async (address, port, destination, destinationPort) => {
        const fd = openDialer(addon, {
          sourceAddress: address,
          sourcePort: port,
          transparent: true,
          netnsPath: exit.path,
        });
        return track(fd).connect({ host: destination, port: destinationPort });
      },
      agree,
      async restart(side, options) {
        const host = side === 'entry' ? left : right;
        await host.call({ verb: 'stop', graceMs: 1_000 });
        await start(host, options);
      },
      async retire(side, id, reason) {
        await (side === 'entry' ? left : right).call({ verb: 'retire', sessionId: id, reason });
      },
      sessionId: () => sessionId,
      stop,
    };
  } catch (error) {
    await stop();
    throw error;
  }
}
