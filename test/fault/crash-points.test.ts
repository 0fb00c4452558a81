/**
 * Every system call the log makes on its files, failed in turn; kill -9 in the middle of any of them; and the power cut,
 * with un-synced writes kept, torn or lost. After each: the log verifies, every acknowledged event is there, and it can be
 * written on.
 */
import { execFileSync, spawn } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { systemClock } from '../../events/clock.ts';
import { openLogReader } from '../../events/log.ts';
import { describeFault, verifyLog } from '../../events/verify.ts';
import {
  agentStarted,
  openHost,
  operator,
  seededRandom,
  temporaryDirectory,
} from '../unit/events/given-log.ts';
import { buildWriter } from './build-writer.ts';

const LONG = process.env['ARCTIC_LONG'] === '1';
/** Runs of each kind. The ordinary suite takes a sample of what the long one tries. */
const FAULTS = LONG ? 600 : 30;
const KILLS = LONG ? 500 : 40;
const POWER_CUTS = LONG ? 300 : 24;
const APPENDS = 24;
const AT_ONCE = 2;
/** Far beyond any run on a busy machine; one that hangs is a failure, not a stuck suite. Counted, not timed: the whole test may be stopped for minutes. */
const RUN_LIMIT_S = 120;
const TIMEOUT = LONG ? 3_600_000 : 900_000;

const here = (name: string): string => fileURLToPath(new URL(name, import.meta.url));
/** A run that fails can be repeated with its seed. */
const SEED = Number(process.env['ARCTIC_SEED'] ?? Date.now() % 1_000_000);
const random = seededRandom(SEED * 2 + 1);
const drawBelow = (limit: number): number => 1 + Math.floor(random.fraction() * Math.max(1, limit));

interface Run {
  readonly acknowledged: readonly (readonly [position: number, hash: string])[];
  readonly refused: readonly string[];
  readonly opened: boolean;
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stderr: string;
  /** It did not end by itself. */
  readonly hung: boolean;
}

interface Environment {
  readonly env?: Readonly<Record<string, string>>;
  /** Kill it so long after it opened its log, ms. */
  readonly killAfterMs?: number;
}

function write(directory: string, shim: string, { env = {}, killAfterMs }: Environment): Promise<Run> {
  return new Promise((resolve, reject) => {
    const argv = [writer, join(directory, 'arctic.db'), String(APPENDS)];
    const child = spawn(process.execPath, argv, {
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { PATH: process.env['PATH'], LD_PRELOAD: shim, SHIM_DIR: directory, ...env },
    });
    let seconds = 0;
    const deadline = setInterval(() => {
      seconds += 1;
      if (seconds === RUN_LIMIT_S) child.kill('SIGKILL');
    }, 1_000);
    const acknowledged: [number, string][] = [];
    const refused: string[] = [];
    let opened = false;
    let stderr = '';
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      stderr += text;
    });
    const lines = createInterface({ input: child.stdout });
    lines.on('line', (line) => {
      const [word, first = '', second = ''] = line.split(' ');
      // A line cut short by the kill acknowledges nothing.
      if (word === 'ack' && second.length === 64) acknowledged.push([Number(first), second]);
      else if (word === 'refused' || word === 'unopened') refused.push(first);
      else if (word === 'open') {
        opened = true;
        if (killAfterMs !== undefined) setTimeout(() => child.kill('SIGKILL'), killAfterMs).unref();
      }
    });
    const drained = new Promise<void>((ended) => lines.once('close', ended));
    child.once('error', reject);
    child.once('close', (code, signal) => {
      clearInterval(deadline);
      drained.then(
        () => resolve({ acknowledged, refused, opened, code, signal, stderr, hung: seconds >= RUN_LIMIT_S }),
        reject,
      );
    });
  });
}

/** What is wrong with what a run left behind; undefined when nothing is. */
function consequence(directory: string, { acknowledged, hung }: Run): string | undefined {
  if (hung) return 'the writer hung, so that nothing was tried';
  const path = join(directory, 'arctic.db');
  if (existsSync(path) && acknowledged.length > 0) {
    const { fault } = verifyLog({ path });
    if (fault !== undefined) return `it does not verify: ${describeFault(fault)}`;
    const reader = openLogReader({ path });
    const hashes = new Map<number, string>();
    for (const page of reader.pages({})) for (const event of page) hashes.set(event.position, event.hash);
    reader.close();
    const lost = acknowledged.find(([position, hash]) => hashes.get(position) !== hash);
    if (lost !== undefined) return `event ${lost[0]} was acknowledged and is not there (of ${hashes.size})`;
  } else if (acknowledged.length > 0) {
    return 'the database is gone';
  }
  const log = openHost({ path, clock: systemClock });
  const [event] = log.append([agentStarted], operator);
  const { head } = log;
  log.close();
  if (event?.position !== head) return 'it cannot be written on';
  const { fault } = verifyLog({ path });
  return fault && `after one more append it does not verify: ${describeFault(fault)}`;
}

/** Runs tasks two at a time; gives what went wrong. */
async function all(tasks: readonly (() => Promise<string | undefined>)[]): Promise<string[]> {
  const left = [...tasks];
  const wrong: string[] = [];
  const worker = async (): Promise<void> => {
    for (let task = left.shift(); task !== undefined; task = left.shift()) {
      const found = await task();
      if (found !== undefined) wrong.push(found);
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, worker));
  return wrong;
}

function compileShim(directory: string): string | undefined {
  const shim = join(directory, 'disk-shim.so');
  try {
    execFileSync('cc', ['-shared', '-fPIC', '-O1', '-o', shim, here('./disk-shim.c'), '-ldl'], {
      stdio: 'ignore',
    });
    return shim;
  } catch {
    return undefined;
  }
}

t.setTimeout(3 * TIMEOUT);
const home = temporaryDirectory(t);
const shim = compileShim(home) ?? '';
const writer = buildWriter(t);
const skip = shim === '' ? 'no C compiler (cc) for the preload' : false;
let made = 0;
const freshDirectory = (): string => {
  made += 1;
  const directory = join(home, `run-${made}`);
  mkdirSync(directory, { mode: 0o700 });
  return directory;
};

/** How many points a run without faults passes through. */
async function countPoints(): Promise<ReadonlyMap<string, number>> {
  const report = join(home, 'report');
  const run = await write(freshDirectory(), shim, { env: { SHIM_REPORT: report } });
  if (run.code !== 0 || run.acknowledged.length === 0)
    throw new Error(`the writer does not run: ${run.stderr}`);
  const lines = readFileSync(report, 'utf8').trim().split('\n');
  return new Map(lines.map((line) => [line.split(' ')[0] ?? '', Number(line.split(' ')[1])]));
}

const ERRORS: Readonly<Record<string, readonly string[]>> = {
  open: ['EMFILE', 'EACCES', 'EIO', 'ENOSPC'],
  pwrite: ['ENOSPC', 'EIO', 'EINTR', 'EDQUOT', 'short'],
  write: ['ENOSPC', 'EIO'],
  fsync: ['EIO', 'ENOSPC', 'EINTR'],
  ftruncate: ['EIO', 'EINTR', 'ENOSPC'],
  unlink: ['EIO', 'EACCES', 'EROFS'],
  rename: ['EIO', 'ENOSPC'],
  mmap: ['ENOMEM', 'EACCES'],
  pread: ['EIO', 'EINTR'],
};

t.test('each system call on the files of the log, failed in turn', { skip, timeout: TIMEOUT }, async (t) => {
  const points = await countPoints();
  const calls = Object.keys(ERRORS).filter((call) => (points.get(call) ?? 0) > 0);
  t.ok(
    calls.includes('pwrite') && calls.includes('fsync') && calls.includes('open'),
    'the preload sees the calls',
  );
  const cases = new Set<string>();
  // The long one fails every call there is, once at least.
  for (const call of LONG ? calls : [])
    for (let n = 1; n <= (points.get(call) ?? 0); n += 1)
      cases.add(`${call}:${n}:${ERRORS[call]?.[n % (ERRORS[call]?.length ?? 1)] ?? 'EIO'}`);
  // Round by round over the calls, so that the rare ones are tried as often as the frequent ones.
  for (let i = 0; cases.size < FAULTS && i < FAULTS * 20; i += 1) {
    const call = calls[i % calls.length] ?? '';
    const errors = ERRORS[call] ?? [];
    const round = Math.floor(i / calls.length);
    const error = errors[round % errors.length] ?? 'EIO';
    // Once, and for good from there on (a disk that stays full). A call interrupted for ever would be repeated for ever.
    const lasting = round % 3 === 2 && error !== 'EINTR' ? '+' : '';
    const count = points.get(call) ?? 1;
    cases.add(`${call}:${round < count && count < 12 ? round + 1 : drawBelow(count)}${lasting}:${error}`);
  }
  let hit = 0;
  const wrong = await all(
    [...cases].map((fail) => async () => {
      const directory = freshDirectory();
      const run = await write(directory, shim, { env: { SHIM_FAIL: fail } });
      if (run.refused.length > 0) hit += 1;
      if (run.code !== 0)
        return `${fail}: the writer died (${run.code ?? run.signal}): ${run.stderr.slice(0, 600)}`;
      const found = consequence(directory, run);
      return found && `${fail}: ${found}`;
    }),
  );
  t.comment(
    `seed ${SEED}: ${cases.size} points of ${[...points].map(([call, count]) => `${call} ${count}`).join(', ')}; ${hit} were refused, the others absorbed`,
  );
  t.same(wrong, []);
  t.ok(hit > 0);
});

t.test('kill -9 at any point', { skip, timeout: TIMEOUT }, async (t) => {
  const mutations = (await countPoints()).get('mutation') ?? 1;
  let acknowledged = 0;
  const wrong = await all(
    Array.from({ length: KILLS }, (_, i) => async () => {
      const directory = freshDirectory();
      // In the middle of a write, and at any other moment.
      const at = drawBelow(mutations);
      const how: Environment =
        i % 4 === 3 ? { killAfterMs: random.fraction() * 60 } : { env: { SHIM_KILL: String(at) } };
      const run = await write(directory, shim, how);
      acknowledged += run.acknowledged.length;
      if (run.code !== null && run.code !== 0)
        return `the writer died by itself: ${run.stderr.slice(0, 600)}`;
      const found = consequence(directory, run);
      return found && `${JSON.stringify(how)}: ${found}`;
    }),
  );
  t.comment(`seed ${SEED}: killed at ${KILLS} points, ${acknowledged} acknowledged events looked for`);
  t.same(wrong, []);
});

t.test('the power goes, and with it what was not synced', { skip, timeout: TIMEOUT }, async (t) => {
  const mutations = (await countPoints()).get('mutation') ?? 1;
  let acknowledged = 0;
  const wrong = await all(
    Array.from({ length: POWER_CUTS }, (_, i) => async () => {
      const directory = freshDirectory();
      const power = `${drawBelow(mutations)}:${SEED + i}`;
      const run = await write(directory, shim, { env: { SHIM_POWER: power } });
      acknowledged += run.acknowledged.length;
      if (run.code !== null && run.code !== 0)
        return `the writer died by itself: ${run.stderr.slice(0, 600)}`;
      const found = consequence(directory, run);
      return found && `SHIM_POWER=${power}: ${found}`;
    }),
  );
  t.comment(`seed ${SEED}: ${POWER_CUTS} power cuts, ${acknowledged} acknowledged events looked for`);
  t.same(wrong, []);
});
