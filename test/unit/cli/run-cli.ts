import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { main } from '../../../cli/program.ts';
import type { Terminal } from '../../../cli/terminal.ts';

export interface Outcome {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

const ROOT = fileURLToPath(new URL('../../../', import.meta.url));
const MAIN = join(ROOT, 'cli/main.ts');
/** Far beyond any run; a hung process is a failure, not a stuck suite. */
const DEADLINE_MS = 60_000;

/** A home of its own for the CLI under test, removed with `remove`. */
export interface Home {
  readonly directory: string;
  readonly configPath: string;
  /** The program in this process, with a terminal that keeps what is written. */
  run(args: readonly string[], options?: RunOptions): Promise<Outcome>;
  /** The real command line in a process of its own. */
  spawn(args: readonly string[], options?: SpawnOptions): Promise<Outcome>;
  remove(): void;
}

export interface RunOptions {
  readonly env?: Readonly<Record<string, string>>;
  readonly stdin?: string;
  /** There is a person at a terminal, who gives these answers. */
  readonly answers?: readonly string[];
}

export interface SpawnOptions {
  readonly env?: Readonly<Record<string, string>>;
  readonly stdin?: string;
  /** Close our end of stdout as soon as the first byte has come. */
  readonly hangUp?: boolean;
  /** Interrupt the command (as Ctrl-C does) once its output matches. */
  readonly until?: RegExp;
  /** Called at the first output. */
  readonly onOutput?: () => void;
}

export function createHome(): Home {
  const directory = mkdtempSync(join(tmpdir(), 'arctic-cli-'));
  return {
    directory,
    configPath: join(directory, 'arctic', 'config.yaml'),
    run: (args, options = {}) => runHere(args, directory, options),
    spawn: (args, options = {}) => spawnCli(args, directory, options),
    remove: () => rmSync(directory, { recursive: true, force: true }),
  };
}

async function runHere(args: readonly string[], home: string, options: RunOptions): Promise<Outcome> {
  let stdout = '';
  let stderr = '';
  const columns = options.env?.['COLUMNS'];
  const answers = [...(options.answers ?? [])];
  const person = options.answers !== undefined;
  const terminal: Terminal = {
    stdoutIsTerminal: person,
    stderrIsTerminal: person,
    canAsk: person,
    columns: columns === undefined ? (person ? 80 : undefined) : Number(columns),
    data: (text) => {
      stdout += text;
    },
    note: (text) => {
      stderr += `${text}\n`;
    },
    status: () => {},
    ask: async (question) => {
      stderr += question;
      return answers.shift();
    },
    readAll: async () => options.stdin ?? '',
  };
  const code = await main(args, { HOME: home, XDG_CONFIG_HOME: home, ...options.env }, terminal);
  return { code, stdout, stderr };
}

function spawnCli(args: readonly string[], home: string, options: SpawnOptions): Promise<Outcome> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, ['--import=tsx', MAIN, ...args], {
      cwd: ROOT,
      env: {
        PATH: process.env['PATH'] ?? '',
        HOME: home,
        XDG_CONFIG_HOME: home,
        ...options.env,
      },
      stdio: ['pipe', 'pipe', 'pipe'],
    });
    const timer = setTimeout(() => child.kill('SIGKILL'), DEADLINE_MS);
    const out: Buffer[] = [];
    const err: Buffer[] = [];
    child.stdout.on('data', (chunk: Buffer) => {
      out.push(chunk);
      if (out.length === 1) options.onOutput?.();
      if (options.hangUp) child.stdout.destroy();
      if (options.until?.test(Buffer.concat(out).toString('utf8'))) child.kill('SIGINT');
    });
    child.stderr.on('data', (chunk: Buffer) => err.push(chunk));
    child.once('error', reject);
    child.once('close', (code) => {
      clearTimeout(timer);
      resolve({
        code,
        stdout: Buffer.concat(out).toString('utf8'),
        stderr: Buffer.concat(err).toString('utf8'),
      });
    });
    child.stdin.on('error', () => {});
    child.stdin.end(options.stdin ?? '');
  });
}
