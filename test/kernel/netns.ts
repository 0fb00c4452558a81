/**
 * Network namespaces for tests: named `arctic-<pid>-<label>-<n>`, removed when the test ends, when the process exits
 * or is told to, and by the next test process when this one was killed.
 */
import { execFile, execFileSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { promisify } from 'node:util';
import { keptLabs, sweepDeadLabs } from '../../ops/lab/namespaces.ts';

const run = promisify(execFile);
const RUN_NETNS = '/run/netns';
const PREFIX = 'arctic-';

const alive = new Set<string>();
let count = 0;
let hooked = false;

export interface Netns {
  readonly name: string;
  /** For `createKernel({ netnsPath })` and the add-on. */
  readonly path: string;
  /** Runs a program inside; answers stdout. Throws with its stderr. */
  exec(program: string, ...args: readonly string[]): Promise<string>;
  /** The arguments that start a program inside: `spawn('ip', [...netns.prefix, 'node', ...])`. */
  readonly prefix: readonly string[];
  remove(): void;
}

/**
 * Removes namespaces whose process is gone, but for those of a lab that was left standing on purpose. A dead lab's go
 * with its processes, which could not be found by a namespace without a name.
 */
export function sweepStaleNamespaces(): void {
  sweepDeadLabs();
  let names: string[];
  try {
    names = readdirSync(RUN_NETNS);
  } catch {
    return;
  }
  const kept = keptLabs().map(({ prefix }) => `${prefix}-`);
  for (const name of names) {
    if (kept.some((prefix) => name.startsWith(prefix))) continue;
    const pid = /^arctic-(\d+)-/.exec(name)?.[1];
    if (pid !== undefined && !isRunning(Number(pid))) removeQuietly(name);
  }
}

function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}

function removeQuietly(name: string): void {
  try {
    execFileSync('ip', ['netns', 'delete', name], { stdio: 'ignore' });
  } catch {
    // Somebody else was faster.
  }
}

function removeAll(): void {
  for (const name of alive) removeQuietly(name);
  alive.clear();
}

function hook(): void {
  if (hooked) return;
  hooked = true;
  sweepStaleNamespaces();
  process.once('exit', removeAll);
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.once(signal, () => {
      removeAll();
      process.kill(process.pid, signal);
    });
  }
}

/** Whether this process may make namespaces. */
export function mayMakeNamespaces(): boolean {
  return process.getuid?.() === 0;
}

/** Makes a namespace with `lo` up. `label` is part of its name. */
export async function makeNetns(label: string): Promise<Netns> {
  hook();
  count += 1;
  const name = `${PREFIX}${process.pid}-${label}-${count}`;
  await run('ip', ['netns', 'add', name]);
  alive.add(name);
  const prefix = ['netns', 'exec', name];
  await run('ip', ['-n', name, 'link', 'set', 'lo', 'up']);
  return {
    name,
    path: `${RUN_NETNS}/${name}`,
    prefix,
    exec: async (program, ...args) => (await run('ip', [...prefix, program, ...args])).stdout,
    remove: () => {
      if (alive.delete(name)) removeQuietly(name);
    },
  };
}

/** One for each label, until the test ends. */
export async function makeSpaces<const Labels extends readonly string[]>(
  t: { teardown(run: () => void): void },
  ...labels: Labels
): Promise<{ readonly [Label in keyof Labels]: Netns }> {
  const spaces = await Promise.all(labels.map(makeNetns));
  t.teardown(() => {
    for (const space of spaces) space.remove();
  });
  return spaces as { [Label in keyof Labels]: Netns };
}

export interface LinkEnd {
  readonly netns: Netns;
  /** Interface name, at most 15 characters. */
  readonly name: string;
  /** `10.0.0.1/24`, `fd00::1/64`. */
  readonly addresses: readonly string[];
}

/** Joins two namespaces by a veth pair; both ends are up and their IPv6 addresses usable at once. */
export async function joinByVeth(a: LinkEnd, b: LinkEnd): Promise<void> {
  const peer = ['peer', 'name', b.name, 'netns', b.netns.name];
  await run('ip', ['-n', a.netns.name, 'link', 'add', 'name', a.name, 'type', 'veth', ...peer]);
  for (const end of [a, b]) {
    // Without duplicate address detection the link is usable at once instead of after one to two seconds.
    await end.netns.exec('sh', '-c', `echo 0 > /proc/sys/net/ipv6/conf/${end.name}/accept_dad`);
    for (const address of end.addresses) {
      const nodad = address.includes(':') ? ['nodad'] : [];
      await run('ip', ['-n', end.netns.name, 'address', 'add', address, 'dev', end.name, ...nodad]);
    }
    await run('ip', ['-n', end.netns.name, 'link', 'set', end.name, 'up']);
  }
}
