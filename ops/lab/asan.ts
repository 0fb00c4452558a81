/**
 * Runs tests with agents whose native parts are built with AddressSanitizer and UndefinedBehaviorSanitizer:
 *
 *   node --import=tsx ops/lab/asan.ts                                              every test of test/e2e
 *   node --import=tsx ops/lab/asan.ts test/e2e/flows.test.ts test/e2e/kcp.test.ts
 *
 * One after the other, in a copy of this tree, so that nothing here is touched. ARCTIC_LAB_RUNTIME=dist takes the built program.
 * Prints a line for each file, and of those that fail the end of what they said. Needs g++ with libasan and libubsan, and root as the tests do; installs patchelf with
 * apt-get when it is missing.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import {
  chmodSync,
  copyFileSync,
  cpSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { installPackages } from './packages.ts';

const ROOT = dirname(dirname(dirname(fileURLToPath(import.meta.url))));
const LEFT_OUT = ['.git', '.lab', '.tap', 'node_modules', join('src', 'native', 'build')];
const FLAGS = [
  '-shared',
  '-fPIC',
  '-std=c++17',
  '-g',
  '-O1',
  '-fno-omit-frame-pointer',
  '-fvisibility=hidden',
];
/** Tests that take a minute take two or three. */
const LIMIT_S = 1_200;
const SHOWN = 6_000;

/** The add-ons and their sources, as binding.gyp has them. */
function addOns(native: string): readonly (readonly [name: string, sources: readonly string[]])[] {
  const targets = readFileSync(join(native, 'binding.gyp'), 'utf8').matchAll(
    /"target_name": "(\w+)",\s*"sources": \[([^\]]*)\]/g,
  );
  return [...targets].map(([, name = '', list = '']) => [
    `${name}.node`,
    [...list.matchAll(/"([^"]+)"/g)].map(([, source = '']) => join(native, source)),
  ]);
}

function build(native: string): void {
  const release = join(native, 'build', 'Release');
  mkdirSync(release, { recursive: true });
  const headers = join(dirname(dirname(process.execPath)), 'include', 'node');
  for (const [name, sources] of addOns(native)) {
    execFileSync('g++', [
      ...FLAGS,
      '-fsanitize=address,undefined',
      ...['-D_GNU_SOURCE', '-DNAPI_VERSION=8', `-I${headers}`],
      ...sources,
      ...['-o', join(release, name)],
    ]);
  }
}

function copyTree(target: string): void {
  const left = new Set(LEFT_OUT.map((path) => join(ROOT, path)));
  cpSync(ROOT, target, { recursive: true, filter: (path) => !left.has(path) });
  symlinkSync(join(ROOT, 'node_modules'), join(target, 'node_modules'));
  build(join(target, 'src', 'native'));
}

/**
 * A node that loads the sanitizer's runtime before anything else, by its own binary: an environment would have to come through every lab,
 * shell and agent, and would slow down curl and nft, too. Answers its path.
 */
function sanitizedNode(directory: string, log: string): string {
  const installed = dirname(dirname(process.execPath));
  const node = join(directory, 'bin', 'node');
  mkdirSync(dirname(node), { recursive: true });
  copyFileSync(process.execPath, node);
  chmodSync(node, 0o755);
  symlinkSync(join(installed, 'include'), join(directory, 'include'));
  const source = join(directory, 'options.c');
  // Node gives nothing back at its end, and makes stacks of its own; this library comes before the runtime.
  const address = `verify_asan_link_order=0:detect_leaks=0:detect_stack_use_after_return=0:log_path=${log}`;
  writeFileSync(
    source,
    `const char *__asan_default_options(void) { return "${address}"; }
const char *__ubsan_default_options(void) { return "print_stacktrace=1:log_path=${log}"; }
`,
  );
  const options = join(directory, 'options.so');
  execFileSync('gcc', ['-shared', '-fPIC', '-o', options, source]);
  const runtime = realpathSync(
    execFileSync('g++', ['-print-file-name=libasan.so'], { encoding: 'utf8' }).trim(),
  );
  execFileSync('patchelf', ['--add-needed', options, '--add-needed', runtime, node]);
  return node;
}

/** Removes the reports it answers. */
function takeReports(directory: string): string {
  return readdirSync(directory)
    .map((name) => {
      const text = readFileSync(join(directory, name), 'utf8');
      rmSync(join(directory, name));
      return text;
    })
    .join('\n');
}

const everyTest = (): string[] =>
  readdirSync(join(ROOT, 'test', 'e2e'))
    .filter((name) => name.endsWith('.test.ts') && !name.endsWith('.long.test.ts'))
    .map((name) => join('test', 'e2e', name));

const named = process.argv.slice(2).map((path) => relative(ROOT, join(process.cwd(), path)));
const tests = named.length > 0 ? named : everyTest();
const scratch = mkdtempSync(join(tmpdir(), 'arctic-asan-'));
const tree = join(scratch, basename(ROOT));
const reports = join(scratch, 'reports');
const failed: string[] = [];
try {
  if (spawnSync('patchelf', ['--version']).status !== 0) {
    installPackages(['patchelf']);
  }
  mkdirSync(reports);
  // An agent without privileges reports, too.
  chmodSync(reports, 0o1777);
  chmodSync(scratch, 0o755);
  copyTree(tree);
  const node = sanitizedNode(join(scratch, 'node'), join(reports, 'report'));
  for (const test of tests) {
    const begun = Date.now();
    const { status, stdout, stderr } = spawnSync(node, ['--import=tsx', test], {
      cwd: tree,
      encoding: 'utf8',
      maxBuffer: 1 << 28,
      timeout: LIMIT_S * 1_000,
      env: { ...process.env, TAP_TIMEOUT: '900', PATH: `${dirname(node)}:${process.env['PATH'] ?? ''}` },
    });
    const report = takeReports(reports);
    const clean = status === 0 && report === '';
    console.log(`${clean ? 'ok    ' : 'FAIL  '}${test} (${((Date.now() - begun) / 1000).toFixed(0)} s)`);
    if (clean) continue;
    failed.push(test);
    console.log(report === '' ? `${stdout.slice(-SHOWN)}${stderr.slice(-SHOWN)}` : report.slice(0, SHOWN));
  }
} finally {
  rmSync(scratch, { recursive: true, force: true });
}
console.log(
  failed.length === 0
    ? `nothing was found in ${tests.length} files`
    : `${failed.length} of ${tests.length} files failed: ${failed.join(', ')}`,
);
process.exitCode = failed.length === 0 && tests.length > 0 ? 0 : 1;
