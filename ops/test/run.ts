/**
 * `npm test`: the checks, then every test file, then a look at what was left behind.
 *
 *   npm test                        checks, unit, simulation, kernel and end-to-end tests
 *   npm run test:long               also fault, fuzz, the long simulations, every *.long.test.ts, and at the end the end-to-end tests
 *                                   once more with the native parts under sanitizers (ops/lab/asan.ts)
 *   npm test -- test/unit/events    only test files whose path begins so
 *
 * The last line is `N passed, N failed`, with `, N skipped` if any. The exit code is 0 only when nothing failed and
 * something ran.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { chmodSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { availableParallelism, tmpdir } from 'node:os';
import { basename, join, relative } from 'node:path';
import { createInterface } from 'node:readline';
import { arcticNamespaces, startTimeOf, sweepDeadLabs } from '../lab/namespaces.ts';
import { CHECKS, ROOT } from './checks.ts';
import { RUN_VARIABLE, removeLeftovers } from './leftovers.ts';
import { createTapReader, type FileReport } from './tap-report.ts';

const QUICK = ['unit', 'simulation', 'kernel', 'e2e'];
const LONG = [...QUICK, 'fault', 'fuzz'];
/** Rooms of test/ that make network namespaces. */
const NEED_NAMESPACES = ['kernel', 'e2e', 'fault'];

const SHOWN_FAILURES = 10;

const options = process.argv.slice(2);
const long = options.includes('--long');
const wanted = options
  .filter((option) => !option.startsWith('-'))
  .map((path) => relative(ROOT, join(ROOT, path)));
const total = { passed: 0, failed: 0, skipped: 0, assertions: 0, files: 0 };
const begun = Date.now();
/** What runs now, in a process group of its own; nothing else is begun after a stop. */
let running: ChildProcess | undefined;
let stopped = false;

function say(text: string): void {
  process.stdout.write(`${text}\n`);
}

function seconds(milliseconds: number): string {
  return `${(milliseconds / 1000).toFixed(1)} s`;
}

function indent(text: string): string {
  return text.replaceAll(/^(?=.)/gm, '      ');
}

function countOne(passed: boolean): void {
  total[passed ? 'passed' : 'failed'] += 1;
}

function testFiles(): string[] {
  const files = (long ? LONG : QUICK).flatMap((room) => {
    try {
      return readdirSync(join(ROOT, 'test', room), { recursive: true, encoding: 'utf8' })
        .filter((name) => name.endsWith('.test.ts') && (long || !name.endsWith('.long.test.ts')))
        .map((name) => join('test', room, name));
    } catch {
      // A room that has no tests yet.
      return [];
    }
  });
  return files.filter((file) => wanted.length === 0 || wanted.some((path) => file.startsWith(path))).sort();
}

function reportFile(report: FileReport): void {
  const { file, passed, failed, skipped, assertions, milliseconds } = report;
  total.passed += passed;
  total.failed += failed;
  total.skipped += skipped;
  total.assertions += assertions;
  total.files += 1;
  const counts = [`${passed} passed`, ...(failed > 0 ? [`${failed} failed`] : [])];
  if (skipped > 0) counts.push(`${skipped} skipped`);
  say(
    `${failed > 0 ? 'FAIL ' : 'ok   '} ${file}: ${counts.join(', ')} (${assertions} assertions, ${seconds(milliseconds)})`,
  );
  // A property that fails says so for every case it tried.
  for (const failure of report.failures.slice(0, SHOWN_FAILURES)) {
    say(`   -> ${failure.path.join(' > ')}`);
    if (failure.diagnostic.length > 0) say(indent(failure.diagnostic.join('\n')));
  }
  const more = report.failures.length - SHOWN_FAILURES;
  if (more > 0) say(`   -> and ${more} more in this file`);
}

async function runChecks(): Promise<void> {
  for (const check of CHECKS) {
    const at = Date.now();
    const { passed, report } = await check.run(ROOT);
    countOne(passed);
    say(
      passed
        ? `ok    ${check.name}: ${report} (${seconds(Date.now() - at)})`
        : `FAIL  ${check.name}\n${indent(report)}`,
    );
  }
}

/** A stopped run still removes what it made: the stage ends, then the end of this file is reached. */
function stopOnSignals(): void {
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.on(signal, () => {
      if (!stopped) {
        say(`stopped by ${signal}`);
        countOne(false);
      }
      stopped = true;
      if (running?.pid !== undefined) process.kill(-running.pid, 'SIGTERM');
    });
  }
}

/** A program of Node's, line by line; answers its exit code, null after a signal. */
async function runStage(
  args: readonly string[],
  environment: NodeJS.ProcessEnv,
  take: (line: string) => void,
): Promise<number | null> {
  if (stopped) return null;
  const child = spawn(process.execPath, args, {
    cwd: ROOT,
    stdio: ['ignore', 'pipe', 'inherit'],
    env: environment,
    detached: true,
  });
  running = child;
  const ended = new Promise<number | null>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', resolve);
  });
  for await (const line of createInterface({ input: child.stdout })) take(line);
  const code = await ended;
  running = undefined;
  return code;
}

async function runTap(files: readonly string[], environment: NodeJS.ProcessEnv): Promise<void> {
  const tap = join(ROOT, 'node_modules', 'tap', 'dist', 'esm', 'run.mjs');
  const limits = long ? ['--timeout=1800'] : [];
  // Tests with real agents wait more than they compute, so one more than there are cores keeps these busy.
  const jobs = `--jobs=${availableParallelism() + 1}`;
  const before = total.failed;
  const reader = createTapReader(reportFile);
  const stage = [tap, 'run', '--reporter=tap', jobs, ...limits, ...files];
  const code = await runStage(stage, environment, (line) => reader.line(line));
  reader.end();
  if (code !== 0 && total.failed === before) {
    countOne(false);
    say(`FAIL  the test runner ended with ${code ?? 'a signal'} though no test failed`);
  }
  if (total.files < files.length) {
    countOne(false);
    say(`FAIL  ${files.length - total.files} of ${files.length} test files gave no report`);
  }
}

/** A file that fails is one that failed; what a sanitizer found is printed with it. */
async function runSanitized(environment: NodeJS.ProcessEnv): Promise<void> {
  const script = join(ROOT, 'ops', 'lab', 'asan.ts');
  const before = total.failed;
  const code = await runStage(['--import=tsx', script], environment, (line) => {
    const verdict = /^(ok|FAIL) {2}/.exec(line)?.[1];
    if (verdict !== undefined) countOne(verdict !== 'FAIL');
    say(verdict === undefined ? indent(line) : `${line} with sanitizers`);
  });
  if (code === 0 || total.failed > before) return;
  countOne(false);
  say(`FAIL  ops/lab/asan.ts ended with ${code ?? 'a signal'}`);
}

/** Removes the directories of runs that were killed. */
function sweepRuns(): void {
  for (const name of readdirSync(tmpdir())) {
    const pid = /^arctic-run-(\d+)-/.exec(name)?.[1];
    if (pid !== undefined && startTimeOf(Number(pid)) === undefined) {
      rmSync(join(tmpdir(), name), { recursive: true, force: true });
    }
  }
}

async function main(): Promise<void> {
  stopOnSignals();
  sweepDeadLabs();
  sweepRuns();
  const directory = mkdtempSync(join(tmpdir(), `arctic-run-${process.pid}-`));
  // An agent that is tested without privileges has its program below it.
  chmodSync(directory, 0o711);
  const run = basename(directory);
  const standing = new Set(arcticNamespaces());
  const environment = {
    ...process.env,
    TMPDIR: directory,
    [RUN_VARIABLE]: run,
    ARCTIC_LAB_RUNTIME: 'dist',
    ...(long ? { ARCTIC_LONG: '1' } : {}),
  };
  try {
    if (wanted.length === 0) await runChecks();
    let files = testFiles();
    if (process.env['ARCTIC_WITHOUT_NAMESPACES'] === '1') {
      const possible = files.filter((file) => !NEED_NAMESPACES.includes(file.split('/')[1] ?? ''));
      total.skipped += files.length - possible.length;
      say(`skip  ${files.length - possible.length} test files that need network namespaces`);
      files = possible;
    }
    if (files.length > 0) await runTap(files, environment);
    const namespaces = process.env['ARCTIC_WITHOUT_NAMESPACES'] !== '1';
    if (long && wanted.length === 0 && namespaces) await runSanitized(environment);
    const left = await removeLeftovers(run, directory, standing);
    countOne(left.length === 0);
    say(
      left.length === 0 ? 'ok    nothing was left behind' : `FAIL  left behind\n${indent(left.join('\n'))}`,
    );
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }

  if (total.assertions === 0) {
    countOne(false);
    say('FAIL  no test was executed');
  }
  say(`\n${total.assertions} assertions in ${total.files} files, ${seconds(Date.now() - begun)}`);
  process.exitCode = total.failed === 0 ? 0 : 1;
  const summary = process.env['ARCTIC_TEST_SUMMARY'];
  if (summary === undefined) {
    say(
      `${total.passed} passed, ${total.failed} failed${total.skipped > 0 ? `, ${total.skipped} skipped` : ''}`,
    );
  } else {
    // The caller adds these to its own counts and prints the closing line itself.
    writeFileSync(summary, `${total.passed} ${total.failed} ${total.skipped}\n`);
  }
}

await main();
