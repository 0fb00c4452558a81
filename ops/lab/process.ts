/** Programs inside a lab host. */
import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, openSync, readFileSync } from 'node:fs';
import { namespacePath } from './namespaces.ts';

export interface Ended {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

export interface ExecResult extends Ended {
  readonly stdout: string;
  readonly stderr: string;
}

export interface ExecOptions {
  readonly env?: Readonly<Record<string, string | undefined>>;
  readonly cwd?: string;
  readonly input?: string;
  /** Milliseconds until the program is killed; 30,000 by default. */
  readonly timeout?: number;
  /** False: a failing program is a result, not an error. */
  readonly check?: boolean;
}

export interface LabProcess {
  readonly pid: number;
  readonly log: string;
  /** Settles when it ends; asking for it keeps this process waiting. */
  readonly ended: Promise<Ended>;
  readonly running: boolean;
  /** Everything it has written to stdout and stderr. */
  output(): string;
  kill(signal?: NodeJS.Signals): void;
  /** SIGTERM, then SIGKILL after `grace` milliseconds (10,000 by default). */
  stop(grace?: number): Promise<Ended>;
}

/**
 * `nsenter` and `env` each become the next program, so that the pid is the program's own; `ip netns exec` would remount
 * /sys each time. NODE_OPTIONS goes because tap puts its own loader into every process a test starts, past any `env`; what the
 * caller wants of it is in LAB_NODE_OPTIONS.
 */
function entering(
  namespace: string,
  argv: readonly string[],
  env: ExecOptions['env'],
): readonly [string, string[]] {
  const wanted = env?.['LAB_NODE_OPTIONS'];
  const options = wanted === undefined ? ['-u', 'NODE_OPTIONS'] : [`NODE_OPTIONS=${wanted}`];
  return ['nsenter', [`--net=${namespacePath(namespace)}`, '--', 'env', ...options, ...argv]];
}

function ending(child: ChildProcess): Promise<Ended> {
  return new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (code, signal) => resolve({ code, signal }));
  });
}

/** Runs a program to its end inside a namespace and collects its output. */
export async function execIn(
  namespace: string,
  argv: readonly string[],
  options: ExecOptions = {},
): Promise<ExecResult> {
  const [program, args] = entering(namespace, argv, options.env);
  const child = spawn(program, args, { env: options.env, cwd: options.cwd, stdio: 'pipe' });
  let stdout = '';
  let stderr = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    stdout += text;
  });
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    stderr += text;
  });
  // The program may end without reading its input.
  child.stdin.on('error', () => {});
  child.stdin.end(options.input ?? '');
  const limit = options.timeout ?? 30_000;
  let late = false;
  const timer = setTimeout(() => {
    late = true;
    child.kill('SIGKILL');
  }, limit);
  const ended = await ending(child).finally(() => clearTimeout(timer));
  if (late) throw new Error(`${argv.join(' ')} in ${namespace}: no end after ${limit} ms\n${stderr}`);
  if (options.check !== false && ended.code !== 0) {
    throw new Error(
      `${argv.join(' ')} in ${namespace}: ended with ${ended.code ?? ended.signal}\n${stderr}${stdout}`,
    );
  }
  return { ...ended, stdout, stderr };
}

/** Starts a program inside a namespace in a session of its own, with its output in a file, so that it can outlive us. */
export function spawnIn(
  namespace: string,
  argv: readonly string[],
  log: string,
  options: Pick<ExecOptions, 'env' | 'cwd'> = {},
): LabProcess {
  const [program, args] = entering(namespace, argv, options.env);
  const file = openSync(log, 'a', 0o600);
  const child = spawn(program, args, {
    env: options.env,
    cwd: options.cwd,
    detached: true,
    stdio: ['ignore', file, file],
  });
  closeSync(file);
  const { pid } = child;
  if (pid === undefined) throw new Error(`cannot start ${argv.join(' ')} in ${namespace}`);
  child.unref();
  const end = ending(child);
  // Who does not wait for it must not die of it.
  end.catch(() => {});
  const running = (): boolean => child.exitCode === null && child.signalCode === null;

  async function stop(grace = 10_000): Promise<Ended> {
    if (running()) child.kill('SIGTERM');
    const timer = setTimeout(() => child.kill('SIGKILL'), grace);
    // While it is waited for, it holds this process open.
    child.ref();
    return end.finally(() => clearTimeout(timer));
  }

  return {
    pid,
    log,
    get ended() {
      child.ref();
      return end;
    },
    get running() {
      return running();
    },
    output: () => readFileSync(log, 'utf8'),
    kill: (signal = 'SIGKILL') => {
      if (running()) child.kill(signal);
    },
    stop,
  };
}
