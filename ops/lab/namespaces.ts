/**
 * Network namespaces as hosts: making and removing them, and removing those whose maker died.
 *
 * Names are `arctic-<pid>-...`, so that parallel runs never collide and an orphan is known by its dead pid. A record
 * in /run/arctic-lab says what else belongs to a lab (its directory) and whether it was left standing on purpose.
 * In an unprivileged run /run is private, so that pids of another pid namespace are never mistaken for ours.
 */
import { spawn, spawnSync } from 'node:child_process';
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';

const NAMESPACES = '/run/netns';
const RECORDS = '/run/arctic-lab';

export interface LabRecord {
  readonly prefix: string;
  readonly pid: number;
  /** Start time of the owner in clock ticks since boot (proc(5), stat field 22): a reused pid is not the owner. */
  readonly startTime: string;
  readonly directory: string;
  readonly kept: boolean;
}

export function namespacePath(name: string): string {
  return join(NAMESPACES, name);
}

function entriesOf(directory: string): string[] {
  try {
    return readdirSync(directory);
  } catch {
    // Not made yet.
    return [];
  }
}

/** Names of the namespaces that `ip netns` knows and that follow our rule for names. */
export function arcticNamespaces(): string[] {
  return entriesOf(NAMESPACES).filter((name) => /^arctic-\d+-/.test(name));
}

/** Start time of a live process, undefined when there is none (a zombie counts as none). */
export function startTimeOf(pid: number): string | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    // The program's name, in parentheses, may itself hold blanks and parentheses.
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    return fields[0] === 'Z' ? undefined : fields[19];
  } catch {
    return undefined;
  }
}

/**
 * Feeds commands to one `ip -batch`, inside a namespace if one is named; a process per command would cost several
 * milliseconds each. Rejects with what `ip` said about the first line that failed.
 */
export async function ipBatch(commands: readonly string[], namespace?: string): Promise<void> {
  const argv = [...(namespace === undefined ? [] : ['-n', namespace]), '-batch', '-'];
  const child = spawn('ip', argv, { stdio: ['pipe', 'ignore', 'pipe'] });
  let complaint = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    complaint += text;
  });
  // A failed `ip` closes its input early; its exit code and words say more than EPIPE.
  child.stdin.on('error', () => {});
  child.stdin.end(`${commands.join('\n')}\n`);
  const code = await new Promise<number | null>((resolve, reject) => {
    child.on('error', reject);
    child.on('close', resolve);
  });
  if (code !== 0) throw new Error(`ip ${argv.join(' ')} failed: ${complaint.trim()}\n${commands.join('\n')}`);
}

/** Writes sysctls of a namespace: `net.ipv4.ip_forward=1`. */
export async function writeSysctls(
  namespace: string,
  settings: Readonly<Record<string, string>>,
): Promise<void> {
  const script = Object.entries(settings)
    .map(([key, value]) => `echo ${value} > /proc/sys/${key.replaceAll('.', '/')}`)
    .join(' && ');
  const child = spawn('nsenter', [`--net=${namespacePath(namespace)}`, 'sh', '-c', script], {
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  let complaint = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    complaint += text;
  });
  const code = await new Promise<number | null>((resolve, reject) => {
    child.on('error', reject);
    child.on('close', resolve);
  });
  if (code !== 0) throw new Error(`cannot set sysctls in ${namespace}: ${complaint.trim()}`);
}

/** Processes whose network is this namespace. */
export function processesIn(namespace: string): number[] {
  const { stdout } = spawnSync('ip', ['netns', 'pids', namespace], { encoding: 'utf8' });
  return (stdout ?? '').split('\n').filter(Boolean).map(Number);
}

export function pause(milliseconds: number): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, milliseconds);
}

/**
 * Kills what runs in the namespaces and removes them. Synchronous, because it also runs while the process exits.
 * A namespace belongs to its lab alone, hence so does every process in it.
 */
export function removeNamespaces(names: readonly string[]): void {
  const ours = names.filter((name) => entriesOf(NAMESPACES).includes(name));
  let left = ours;
  // A killed process leaves its namespace only when the kernel has torn it down.
  for (let attempt = 0; attempt < 200 && left.length > 0; attempt += 1) {
    if (attempt > 0) pause(10);
    left = left.filter((name) => {
      const pids = processesIn(name).filter((pid) => pid !== process.pid);
      for (const pid of pids) {
        try {
          process.kill(pid, 'SIGKILL');
        } catch {
          // Gone between the two calls.
        }
      }
      return pids.length > 0;
    });
  }
  for (const name of ours) spawnSync('ip', ['netns', 'delete', name], { stdio: 'ignore' });
}

function recordPath(prefix: string): string {
  return join(RECORDS, `${prefix}.json`);
}

export function writeRecord(record: LabRecord): void {
  mkdirSync(RECORDS, { recursive: true, mode: 0o700 });
  writeFileSync(recordPath(record.prefix), JSON.stringify(record), { mode: 0o600 });
}

function readRecords(): LabRecord[] {
  return entriesOf(RECORDS).flatMap((file) => {
    try {
      return [JSON.parse(readFileSync(join(RECORDS, file), 'utf8')) as LabRecord];
    } catch {
      // Being written, or removed, by its owner.
      return [];
    }
  });
}

/** Removes everything that belongs to a lab: processes, namespaces, directory, record. */
export function removeLab(record: Pick<LabRecord, 'prefix' | 'directory'>): void {
  removeNamespaces(arcticNamespaces().filter((name) => name.startsWith(`${record.prefix}-`)));
  if (basename(record.directory).startsWith(record.prefix)) {
    rmSync(record.directory, { recursive: true, force: true, maxRetries: 5, retryDelay: 20 });
  }
  rmSync(recordPath(record.prefix), { force: true });
}

/** Labs left standing on purpose (`npm run demo -- --keep`). */
export function keptLabs(): LabRecord[] {
  return readRecords().filter((record) => record.kept);
}

/** Removes what dead owners left behind, except labs kept on purpose. Returns what it removed. */
export function sweepDeadLabs(): string[] {
  const removed: string[] = [];
  const records = readRecords();
  for (const record of records) {
    if (record.kept || startTimeOf(record.pid) === record.startTime) continue;
    removeLab(record);
    removed.push(record.prefix);
  }
  const recorded = records.map((record) => `${record.prefix}-`);
  const orphans = arcticNamespaces().filter((name) => {
    const pid = Number(name.split('-')[1]);
    return startTimeOf(pid) === undefined && !recorded.some((prefix) => name.startsWith(prefix));
  });
  removeNamespaces(orphans);
  return [...removed, ...orphans];
}
