/**
 * The writer, compiled. Hundreds of them are started, and each would otherwise compile the program for half a second before it
 * touches its log.
 */
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));

/** Path of the compiled writer. It stands below node_modules, where its imports are found, and goes with the test. */
export function buildWriter(t: { teardown(run: () => void): void }): string {
  const cache = join(ROOT, 'node_modules', '.cache');
  mkdirSync(cache, { recursive: true });
  const directory = mkdtempSync(join(cache, 'arctic-fault-'));
  t.teardown(() => rmSync(directory, { recursive: true, force: true }));
  const project = join(directory, 'tsconfig.json');
  const options = {
    noEmit: false,
    rootDir: ROOT,
    outDir: directory,
    types: ['node'],
    typeRoots: [join(ROOT, 'node_modules/@types')],
  };
  writeFileSync(
    project,
    JSON.stringify({
      extends: join(ROOT, 'tsconfig.json'),
      compilerOptions: options,
      include: [],
      files: [join(ROOT, 'test/fault/writer.ts')],
    }),
  );
  writeFileSync(join(directory, 'package.json'), '{"type":"module"}');
  const tsc = join(ROOT, 'node_modules', 'typescript', 'bin', 'tsc');
  // The runner puts its hooks into every Node process a test starts, past any `env` option, and the compiler does not load
  // through them.
  execFileSync('env', ['-u', 'NODE_OPTIONS', process.execPath, tsc, '-p', project], {
    stdio: ['ignore', 'inherit', 'inherit'],
  });
  return join(directory, 'test', 'fault', 'writer.js');
}
