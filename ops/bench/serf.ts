/** A serf agent on a lab host, and its RPC (MessagePack over TCP): only what sending and following user events needs. */
import { existsSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Lab } from '../lab/lab.ts';

export interface SerfNode {
  /** Spreads a user event from this node. */
  send(name: string): void;
  /** Calls back with what arrives, as bytes: the name of an event stands in it as it is. */
  onData(listener: (data: Buffer) => void): void;
  members(): Promise<number>;
  close(): void;
}

const RPC_PORT = 7373;
const RELAY = new URL('../lab/relay.mjs', import.meta.url).pathname;

/** fixstr, str 8; fixmap; positive fixint; booleans: the whole of MessagePack that is needed. */
function pack(
  value: string | number | boolean | Readonly<Record<string, string | number | boolean>>,
): Buffer {
  if (typeof value === 'boolean') return Buffer.of(value ? 0xc3 : 0xc2);
  if (typeof value === 'number') return Buffer.of(value & 0x7f);
  if (typeof value === 'string') {
    const bytes = Buffer.from(value);
    return Buffer.concat([Buffer.of(0xa0 | bytes.length), bytes]);
  }
  const entries = Object.entries(value);
  return Buffer.concat([
    Buffer.of(0x80 | entries.length),
    ...entries.flatMap(([key, one]) => [pack(key), pack(one)]),
  ]);
}

async function open(path: string): Promise<Socket> {
  for (let i = 0; i < 500; i += 1) {
    if (existsSync(path)) {
      const socket = connect(path);
      const ok = await new Promise<boolean>((resolve) => {
        socket.once('connect', () => resolve(true));
        socket.once('error', () => resolve(false));
      });
      if (ok) return socket;
    }
    await sleep(20);
  }
  throw new Error(`nothing listens at ${path}`);
}

/** Starts `serf agent` with its own defaults (profile lan) on a host; `join` is an address to begin with. */
export async function startSerf(lab: Lab, host: string, join_: string | undefined): Promise<SerfNode> {
  const { ipv4 } = lab.host(host).address;
  const agent = lab.spawn(host, [
    'serf',
    'agent',
    `-node=${host}`,
    `-bind=${ipv4}`,
    `-rpc-addr=127.0.0.1:${RPC_PORT}`,
    '-log-level=warn',
    ...(join_ === undefined ? [] : [`-retry-join=${join_}`]),
  ]);
  // The relay refuses until the agent listens.
  for (let i = 0; i < 500 && !agent.output().includes('Serf agent running'); i += 1) {
    if (!agent.running) throw new Error(`serf ended on ${host}:\n${agent.output()}`);
    await sleep(20);
  }
  const path = join(lab.host(host).directory, 'serf.sock');
  lab.spawn(host, [process.execPath, RELAY, path, '127.0.0.1', String(RPC_PORT)]);
  const socket = await open(path);
  const listeners = new Set<(data: Buffer) => void>();
  socket.on('data', (data) => {
    for (const listener of listeners) listener(data);
  });
  let sequence = 1;
  const call = (command: string, body: Readonly<Record<string, string | number | boolean>>): void => {
    sequence = (sequence + 1) & 0x7f;
    socket.write(Buffer.concat([pack({ Command: command, Seq: sequence }), pack(body)]));
  };
  call('handshake', { Version: 1 });
  call('stream', { Type: 'user' });
  return {
    send: (name) => call('event', { Name: name, Payload: '', Coalesce: false }),
    onData: (listener) => void listeners.add(listener),
    async members() {
      const { stdout } = await lab.exec(host, ['serf', 'members', '-status=alive', '-format=json'], {
        check: false,
      });
      return stdout.match(/"status": "alive"/g)?.length ?? 0;
    },
    close: () => socket.destroy(),
  };
}
