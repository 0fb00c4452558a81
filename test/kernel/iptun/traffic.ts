/** Traffic between namespaces, by processes inside them. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import type { Test } from 'tap';
import type { Netns } from '../netns.ts';

const PROGRAM = fileURLToPath(new URL('./traffic-process.ts', import.meta.url));
export const ECHO_PORT = 7777;

const start = (netns: Netns, args: readonly string[]) =>
  spawn('ip', [...netns.prefix, process.execPath, '--import=tsx', PROGRAM, ...args], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });

/** Echoes UDP and digests TCP on ECHO_PORT until the test ends. */
export async function serve(t: Test, netns: Netns): Promise<void> {
  const child = start(netns, ['serve', String(ECHO_PORT)]);
  t.teardown(async () => {
    const gone = once(child, 'exit');
    child.kill('SIGKILL');
    await gone;
  });
  await once(child.stdout, 'data');
}

async function run(netns: Netns, args: readonly string[]): Promise<unknown> {
  const child = start(netns, args);
  let text = '';
  child.stdout.on('data', (bytes: Buffer) => {
    text += bytes.toString();
  });
  const [code] = (await once(child, 'exit')) as [number | null];
  if (code !== 0) throw new Error(`traffic ${args.join(' ')} ended with ${code}`);
  return JSON.parse(text);
}

export interface PingResult {
  readonly sent: number;
  readonly received: number;
  readonly bad: number;
  /** Errno names of sends the kernel refused. */
  readonly refused: readonly string[];
}

export const ping = async (
  netns: Netns,
  address: string,
  options: {
    readonly sizes?: readonly number[];
    readonly size?: number;
    readonly dontFragment?: boolean;
    readonly count?: number;
  } = {},
): Promise<PingResult> =>
  (await run(netns, [
    'ping',
    address,
    (options.sizes ?? [options.size ?? 56]).join(','),
    options.dontFragment === true ? 'do' : 'want',
    String(options.count ?? 3),
  ])) as PingResult;

/** True once one ping is answered, within some twenty tries. */
export async function comesThrough(netns: Netns, address: string): Promise<boolean> {
  const { received } = (await run(netns, ['reach', address])) as { readonly received: number };
  return received > 0;
}

export const udpEchoes = async (
  netns: Netns,
  address: string,
  count: number,
  gapMicroseconds = 100,
): Promise<{ readonly sent: number; readonly received: number; readonly bad: number }> =>
  (await run(netns, ['udp', address, String(ECHO_PORT), String(count), String(gapMicroseconds)])) as {
    sent: number;
    received: number;
    bad: number;
  };

export const tcpTransfer = async (
  netns: Netns,
  address: string,
  megabytes: number,
): Promise<{ readonly same: boolean; readonly megabitsPerSecond: number }> =>
  (await run(netns, ['tcp', address, String(ECHO_PORT), String(megabytes)])) as {
    same: boolean;
    megabitsPerSecond: number;
  };
