import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';

/** sd_booted(3). */
export const systemdRuns = (): boolean => existsSync('/run/systemd/system');

/** Runs a program to its end. Exit code 127 when there is no such program, as a shell says. */
export function runProgram(
  program: string,
  argv: readonly string[],
  options: { readonly timeoutMs?: number; readonly maxBytes?: number } = {},
): Promise<{ readonly code: number; readonly output: string }> {
  const { timeoutMs = 60_000, maxBytes = 8 * 1024 * 1024 } = options;
  return new Promise((resolve) => {
    const child = spawn(program, argv, { stdio: ['ignore', 'pipe', 'pipe'], timeout: timeoutMs });
    const chunks: Buffer[] = [];
    let size = 0;
    const take = (chunk: Buffer): void => {
      size += chunk.length;
      if (size <= maxBytes) chunks.push(chunk);
    };
    child.stdout.on('data', take);
    child.stderr.on('data', take);
    child.once('error', (error) => resolve({ code: 127, output: error.message }));
    child.once('close', (code) =>
      resolve({ code: code ?? 1, output: Buffer.concat(chunks).toString('utf8') }),
    );
  });
}
