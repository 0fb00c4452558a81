/**
 * Runs tests with agents whose native relay is built with AddressSanitizer:
 *
 *   node --import=tsx ops/lab/asan.ts test/e2e/flows.test.ts test/e2e/kcp.test.ts
 *
 * The relay of this working copy is put aside meanwhile and put back at the end. Needs g++ with libasan, and root as the tests do.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync, renameSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const ROOT = dirname(dirname(dirname(fileURLToPath(import.meta.url))));
const NATIVE = join(ROOT, 'src', 'native');
const RELAY = join(NATIVE, 'build', 'Release', 'arctic_relay.node');
const ASIDE = `${RELAY}.aside`;

const below = (folder: string): string[] =>
  readdirSync(join(NATIVE, folder))
    .filter((name) => name.endsWith('.cc'))
    .map((name) => join(NATIVE, folder, name));

const tests = process.argv.slice(2);
if (tests.length === 0) throw new Error('which tests?');
const scratch = mkdtempSync(join(tmpdir(), 'arctic-asan-'));
const built = `${RELAY}.asan`;
let failed = 0;
try {
  execFileSync('g++', [
    ...['-shared', '-fPIC', '-std=c++17', '-g', '-O1', '-fno-omit-frame-pointer', '-fsanitize=address'],
    ...[
      '-D_GNU_SOURCE',
      '-DNAPI_VERSION=8',
      `-I${join(dirname(dirname(process.execPath)), 'include', 'node')}`,
    ],
    ...['relay', 'kcp'].flatMap(below),
    join(NATIVE, 'tunnel', 'aegis128l.cc'),
    ...['-o', built],
  ]);
  const library = execFileSync('g++', ['-print-file-name=libasan.so'], { encoding: 'utf8' }).trim();
  const report = join(scratch, 'report');
  renameSync(RELAY, ASIDE);
  renameSync(built, RELAY);
  for (const test of tests) {
    const { status } = spawnSync(process.execPath, ['--import=tsx', test], {
      cwd: ROOT,
      stdio: 'inherit',
      env: {
        ...process.env,
        TAP_TIMEOUT: '600',
        ARCTIC_LAB_PRELOAD: library,
        // Node gives nothing back at its end, and makes stacks of its own.
        ASAN_OPTIONS: `detect_leaks=0:detect_stack_use_after_return=0:log_path=${report}`,
      },
    });
    if (status !== 0) failed += 1;
  }
  for (const name of readdirSync(scratch)) {
    failed += 1;
    console.error(readFileSync(join(scratch, name), 'utf8'));
  }
} finally {
  if (existsSync(ASIDE)) renameSync(ASIDE, RELAY);
  rmSync(built, { force: true });
  rmSync(scratch, { recursive: true, force: true });
}
console.log(failed === 0 ? 'nothing was found' : `${failed} failures`);
process.exitCode = failed === 0 ? 0 : 1;
