/** Two hosts joined by a wire, each with a tunnel engine in a process of its own. */
import { type ChildProcess, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import type { Test } from 'tap';
import type { TunnelConfig, TunnelPolicy, TunnelStats } from '../../../src/engines/iptun/contract.ts';
import { joinByVeth, makeNetns, type Netns } from '../netns.ts';
import type { HostCall, HostReply } from './engine-process.ts';

const HOST = fileURLToPath(new URL('./engine-process.ts', import.meta.url));
export const PORT = 51_840;

export interface EngineHost {
  readonly child: ChildProcess;
  call(call: HostCall): Promise<unknown>;
  stats(): Promise<TunnelStats>;
  kill(): Promise<void>;
}

export interface HostOptions {
  readonly rekeyAfterMs?: number | undefined;
  readonly aegis?: boolean | undefined;
}

export async function startHost(netns: Netns, options: HostOptions = {}): Promise<EngineHost> {
  const child = spawn('ip', [...netns.prefix, process.execPath, '--import=tsx', HOST], {
    stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
  });
  const waiting = new Map<number, { resolve(value: unknown): void; reject(error: Error): void }>();
  let next = 0;
  child.on('message', (reply: HostReply) => {
    const one = waiting.get(reply.id);
    waiting.delete(reply.id);
    if (reply.error === undefined) one?.resolve(reply.result);
    else one?.reject(new Error(reply.error));
  });
  child.once('exit', () => {
    for (const one of waiting.values()) one.reject(new Error('the engine process is gone'));
    waiting.clear();
  });
  const call = (asked: HostCall): Promise<unknown> =>
    new Promise((resolve, reject) => {
      next += 1;
      waiting.set(next, { resolve, reject });
      child.send({ id: next, call: asked });
    });
  await call({ verb: 'start', port: PORT, ...options });
  return {
    child,
    call,
    stats: async () => (await call({ verb: 'stats' })) as TunnelStats,
    async kill() {
      if (child.exitCode !== null || child.signalCode !== null) return;
      const gone = once(child, 'exit');
      child.kill('SIGKILL');
      await gone;
    },
  };
}

/** Inside addresses of the two hosts. */
export const INSIDE = {
  a: { v4: '10.77.0.1', v6: 'fd77::1' },
  b: { v4: '10.77.0.2', v6: 'fd77::2' },
} as const;

/** Everything between the inside addresses, of which `a` is the source. */
const pairs = (source: string, dest: string) => ({ source, dest, serviceId: 'svc_lab' });
const CLASSES: TunnelPolicy['entries']['classes'] = [
  {
    family: 'ipv4',
    sourceLength: 32,
    destLength: 32,
    routes: [pairs(`${INSIDE.a.v4}/32`, `${INSIDE.b.v4}/32`)],
  },
  {
    family: 'ipv6',
    sourceLength: 128,
    destLength: 128,
    routes: [pairs(`${INSIDE.a.v6}/128`, `${INSIDE.b.v6}/128`)],
  },
];
const NOTHING = { fallback: null, classes: [] };

export function configOf(
  side: 'a' | 'b',
  endpoint: string | undefined,
  limitBitsPerSecond?: number,
): TunnelConfig {
  const carried = { fallback: null, classes: CLASSES };
  return {
    peers: [
      {
        peerId: side === 'a' ? 'peer_b' : 'peer_a',
        device: 'arctun0',
        endpoint: endpoint === undefined ? undefined : { host: endpoint, port: PORT },
        policy: side === 'a' ? { entries: carried, exits: NOTHING } : { entries: NOTHING, exits: carried },
        limits:
          limitBitsPerSecond === undefined
            ? []
            : [{ serviceId: 'svc_lab', bitsPerSecond: limitBitsPerSecond }],
      },
    ],
  };
}

export interface Lab {
  readonly spaces: { readonly a: Netns; readonly b: Netns };
  readonly hosts: { a: EngineHost; b: EngineHost };
  /** Gives both a new session; answers its id. */
  agree(): Promise<string>;
  /** Addresses on a host's device, which come again with it. */
  address(side: 'a' | 'b'): Promise<void>;
  restart(side: 'a' | 'b'): Promise<void>;
}

export interface LabOptions {
  readonly outside?: 'ipv4' | 'ipv6';
  readonly rekeyAfterMs?: number;
  readonly limitBitsPerSecond?: number;
  /** Which hosts may use AEGIS-128L; both unless told otherwise. */
  readonly aegis?: { readonly a: boolean; readonly b: boolean };
}

export async function makeLab(t: Pick<Test, 'teardown'>, options: LabOptions = {}): Promise<Lab> {
  const [a, b] = await Promise.all([makeNetns('a'), makeNetns('b')]);
  const spaces = { a, b };
  const outside =
    options.outside === 'ipv6' ? { a: 'fd09::1', b: 'fd09::2' } : { a: '10.9.0.1', b: '10.9.0.2' };
  await joinByVeth(
    { netns: a, name: 'wire0', addresses: ['10.9.0.1/24', 'fd09::1/64'] },
    { netns: b, name: 'wire0', addresses: ['10.9.0.2/24', 'fd09::2/64'] },
  );
  const start = (side: 'a' | 'b') =>
    startHost(spaces[side], { rekeyAfterMs: options.rekeyAfterMs, aegis: options.aegis?.[side] });
  const hosts = { a: await start('a'), b: await start('b') };
  t.teardown(async () => {
    await Promise.all([hosts.a.kill(), hosts.b.kill()]);
    for (const netns of [a, b]) netns.remove();
  });
  const configure = (side: 'a' | 'b') =>
    hosts[side].call({
      verb: 'configure',
      config: configOf(side, outside[side === 'a' ? 'b' : 'a'], options.limitBitsPerSecond),
    });
  const lab: Lab = {
    spaces,
    hosts,
    async agree() {
      const secret = randomBytes(32).toString('hex');
      const id = await hosts.a.call({ verb: 'session', peerId: 'peer_b', secret, side: 'initiator' });
      await hosts.b.call({ verb: 'session', peerId: 'peer_a', secret, side: 'responder' });
      return id as string;
    },
    async address(side) {
      const ip = (...args: string[]) => spaces[side].exec('ip', ...args);
      await ip('address', 'add', `${INSIDE[side].v4}/24`, 'dev', 'arctun0');
      await ip('-6', 'address', 'add', `${INSIDE[side].v6}/64`, 'dev', 'arctun0', 'nodad');
    },
    async restart(side) {
      await hosts[side].kill();
      hosts[side] = await start(side);
      await configure(side);
      await lab.address(side);
    },
  };
  await lab.agree();
  await configure('a');
  await configure('b');
  await lab.address('a');
  await lab.address('b');
  return lab;
}
