import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

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
  run(args: readonly string[], options?: RunOptions): Promise<Outcome>;
  remove(): void;
}

export interface RunOptions {
  readonly env?: Readonly<Record<string, string>>;
  readonly stdin?: string;
  /** Close our end of stdout as soon as the first byte has come. */
  readonly hangUp?: boolean;
}

export function createHome(): Home {
  const directory = mkdtempSync(join(tmpdir(), 'arctic-cli-'));
  return {
    directory,
    configPath: join(directory, 'arctic', 'config.yaml'),
    run: (args, options = {}) => runCli(args, directory, options),
    remove: () => rmSync(directory, { recursive: true, force: true }),
  };
}

/** The real command line in a process of its own, without a terminal. */
function runCli(args: readonly string[], home: string, options: RunOptions): Promise<Outcome> {
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
      if (options.hangUp) child.stdout.destroy();
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
