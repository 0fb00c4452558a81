/** Compiles the lab's native tools into a cache; `node --import=tsx ops/lab/build-tools.ts` compiles all and prints where. */
import { execFile } from 'node:child_process';
import { createHash, randomUUID } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, symlinkSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

const HERE = dirname(fileURLToPath(import.meta.url));
const CACHE = join(dirname(dirname(HERE)), '.lab', 'tools');

const FLAGS = {
  linkemulator: ['-O2', '-Wall', '-Wextra', '-Werror'],
  loadtool: ['-O2', '-Wall', '-Wextra', '-Werror'],
  udptool: ['-O2', '-Wall', '-Wextra', '-Werror'],
  syntool: ['-O2', '-Wall', '-Wextra', '-Werror'],
  /** Preload libraries. */
  congestion: ['-O2', '-Wall', '-Wextra', '-Werror', '-shared', '-fPIC', '-ldl'],
  clockshift: ['-O2', '-Wall', '-Wextra', '-Werror', '-shared', '-fPIC', '-ldl'],
} as const;

export type Tool = keyof typeof FLAGS;
export const TOOLS = Object.keys(FLAGS) as Tool[];

/** Path of the compiled tool; compiles it when its source or flags have changed. Safe to call from several processes. */
export async function compileTool(tool: Tool): Promise<string> {
  const source = join(HERE, `${tool}.c`);
  const flags = FLAGS[tool];
  const digest = createHash('sha256')
    .update(JSON.stringify(flags))
    .update(readFileSync(source))
    .digest('hex');
  const target = join(CACHE, `${tool}-${digest.slice(0, 16)}`);
  if (existsSync(target)) return target;
  mkdirSync(CACHE, { recursive: true });
  // Two may compile it at the same time, in this process or in another: each into its own file.
  const scratch = `${target}.${randomUUID()}`;
  await promisify(execFile)('gcc', ['-o', scratch, source, ...flags]);
  renameSync(scratch, target);
  return target;
}

/**
 * A preload library as LD_PRELOAD can name it: that splits at blanks and colons (ld.so(8)), and the folder of this project may have
 * some. It is linked into `directory`, which must have none and outlive the programs.
 */
export async function preloadTool(tool: Tool, directory: string): Promise<string> {
  const path = join(directory, `${tool}.so`);
  rmSync(path, { force: true });
  symlinkSync(await compileTool(tool), path);
  return path;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  for (const tool of TOOLS) process.stdout.write(`${tool} ${await compileTool(tool)}\n`);
}
