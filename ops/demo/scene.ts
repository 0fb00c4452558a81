/** What the steps of the demo share: hosts, traffic, and what the agents and the system's own tools say of them. */
import { createHash } from 'node:crypto';
import { accessSync, constants, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Lab, LinkOptions } from '../lab/lab.ts';

export const FILE_BYTES = 20 * 1024 * 1024;
/** What is fetched without Arctic: 20 MiB would take most of a minute over the link below. */
export const SAMPLE_BYTES = 1024 * 1024;
export const PORT = 8000;
export const SERVER_NETWORK = '10.91.3.0/24';
/** Nobody's: traffic to the server matches no route while it stands there (RFC 5737). */
export const ELSEWHERE = '192.0.2.0/24';

/** Such as between two continents: 100 ms there and back, one packet in a hundred lost. */
const LONG_LINK: LinkOptions = { rateMbit: 100, delayMs: 50, lossPercent: 1, queueMs: 50 };

/** The emulated link needs /dev/net/tun; without it (some containers) the hosts are joined by a plain wire. */
export function longLink(): LinkOptions | undefined {
  try {
    accessSync('/dev/net/tun', constants.R_OK | constants.W_OK);
    return LONG_LINK;
  } catch {
    return undefined;
  }
}

export interface DemoState {
  readonly lab: Lab;
  readonly link: LinkOptions | undefined;
  /** Megabits a second of the sample without Arctic. */
  directRate: number;
  /** Position in the entry's log before its route was changed. */
  before: number;
  peerIds: Record<string, string>;
  serviceId: string;
  routeId: string;
  sha256: string;
}

export interface Step {
  readonly title: string;
  /** What is done, and what it proves when it succeeds. */
  readonly does: string;
  readonly proves: string;
  /** Returns what was seen, a line each. */
  run(state: DemoState): Promise<readonly string[]>;
}

export function expect(condition: boolean, otherwise: string): void {
  if (!condition) throw new Error(otherwise);
}

/** Milliseconds until the probe gives true; an error that says `what` after `limit`. */
export async function until(what: string, probe: () => Promise<boolean>, limit = 20_000): Promise<number> {
  const begun = performance.now();
  let reason = '';
  for (;;) {
    try {
      if (await probe()) return Math.round(performance.now() - begun);
    } catch (error) {
      reason = error instanceof Error ? `: ${error.message}` : '';
    }
    if (performance.now() - begun > limit) throw new Error(`${what}: not within ${limit / 1000} s${reason}`);
    await sleep(25);
  }
}

export async function arctic(lab: Lab, host: string, ...argv: readonly string[]): Promise<string> {
  return (await lab.cli(host, argv)).stdout;
}

export async function arcticJson<T>(lab: Lab, host: string, ...argv: readonly string[]): Promise<T> {
  return JSON.parse(await arctic(lab, host, ...argv, '--json')) as T;
}

interface Fetched {
  readonly sha256: string;
  readonly bytes: number;
  readonly seconds: number;
  /** The address the server saw. */
  readonly seenFrom: string;
}

/** Fetches a file in the client by a plain curl; the server says in a header of its answer who asked. */
export async function fetchFile(lab: Lab, name: 'file.bin' | 'sample.bin' = 'file.bin'): Promise<Fetched> {
  const { directory } = lab.host('client');
  const file = join(directory, 'fetched.bin');
  const headers = join(directory, 'headers.txt');
  const url = `http://${lab.host('server').address.ipv4}:${PORT}/${name}`;
  const format = '%{size_download} %{time_total}';
  const argv = ['curl', '-sS', '--fail', '--max-time', '60', '-D', headers, '-o', file, '-w', format, url];
  const { stdout } = await lab.exec('client', argv, { timeout: 90_000 });
  const [bytes = 0, seconds = 0] = stdout.split(' ').map(Number);
  const seen = /^x-seen-from: (\S+)/im.exec(readFileSync(headers, 'utf8'))?.[1] ?? 'nobody';
  const sha256 = createHash('sha256').update(readFileSync(file)).digest('hex');
  return { sha256, bytes, seconds, seenFrom: seen.replace('::ffff:', '') };
}

export const rateOf = (fetched: Fetched): number => (fetched.bytes * 8) / fetched.seconds / 1e6;

export function describe(fetched: Fetched): string {
  const size = (fetched.bytes / 1024 / 1024).toFixed(0);
  return `${size} MiB in ${fetched.seconds.toFixed(2)} s (${rateOf(fetched).toFixed(1)} Mbit/s), the server saw ${fetched.seenFrom}`;
}

/** The exit's address towards the server: what the server sees of an accelerated connection. */
export function exitAddress(lab: Lab): string {
  const found = lab.host('exit').interfaces.find(({ name }) => name === 'lan0');
  if (found === undefined) throw new Error('the exit has no interface lan0');
  return found.ipv4;
}

/** Bytes that an agent's TCP engine says it has carried, from its Prometheus counters. */
export async function engineBytes(lab: Lab, host: string): Promise<number> {
  const { stdout } = await lab.exec(host, [
    'curl',
    '-sS',
    '--fail',
    '--max-time',
    '5',
    'http://127.0.0.1:8080/metrics',
  ]);
  const samples = stdout
    .split('\n')
    .filter((line) => /^arctic_tproxy_(received|sent)_bytes_total\{/.test(line));
  expect(samples.length > 0, `the agent on ${host} exports no byte counter of its TCP engine`);
  return samples.reduce((sum, line) => sum + Number(line.split(' ').at(-1)), 0);
}

export type ReconcilerStatus = Readonly<
  Record<string, { readonly state: string; readonly reason?: string | null }>
>;

export async function statusOf(state: DemoState, host: string): Promise<ReconcilerStatus> {
  const service = await arcticJson<{ status: ReconcilerStatus }>(
    state.lab,
    host,
    'services',
    'get',
    state.serviceId,
  );
  return service.status;
}

/** Position of the newest event in the entry's log. */
export async function headOf(lab: Lab): Promise<number> {
  const events = await arcticJson<{ position: number }[]>(lab, 'entry', 'events', 'list');
  return Math.max(...events.map(({ position }) => position));
}

export async function kernelMentions(lab: Lab, prefix: string): Promise<boolean> {
  const { stdout } = await lab.exec('entry', ['nft', 'list', 'table', 'inet', 'arctic']);
  return stdout.includes(prefix.replace(/\/\d+$/, ''));
}
