// Takes a clean clone to where it can check, build, test or show itself: `prepare.mjs check|build|test|demo`.
// Plain JavaScript on Node built-ins only, because node_modules may not exist yet. Each step first looks whether it is
// needed, so a second run does nothing and takes a fraction of a second. Nothing depends on install scripts.
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  chmodSync,
  closeSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join, relative, sep } from 'node:path';
import { fileURLToPath } from 'node:url';
import { findProgram, installPrograms, missingPrograms, PROGRAMS_OF_MODE, systemPath } from './programs.mjs';

export const ROOT = dirname(dirname(dirname(fileURLToPath(import.meta.url))));
const SCRATCH = join(ROOT, '.lab');
const LOG = join(SCRATCH, 'prepare.log');
const MODULES = join(ROOT, 'node_modules');
const NATIVE = join(ROOT, 'src', 'native');
const ADDON = join(NATIVE, 'build', 'Release', 'arctic_native.node');
const DIST = join(ROOT, 'dist');
const BUNDLER = join(ROOT, 'ops', 'setup', 'bundle.mjs');
const OLDEST_NODE = [20, 18, 1];

const MODES = Object.keys(PROGRAMS_OF_MODE);

function say(text) {
  process.stderr.write(`prepare: ${text}\n`);
}

/** Runs a program with its output in the log; on failure the end of the log is part of the error. */
function run(program, argv, options = {}) {
  mkdirSync(SCRATCH, { recursive: true });
  const log = openSync(LOG, 'w');
  const { status, signal, error } = spawnSync(program, argv, {
    cwd: ROOT,
    env: { ...process.env, PATH: systemPath() },
    ...options,
    stdio: ['ignore', log, log],
  });
  closeSync(log);
  if (status === 0) return;
  const cause = error?.message ?? (signal === null ? `exit code ${status}` : `signal ${signal}`);
  const tail = readFileSync(LOG, 'utf8').trimEnd().split('\n').slice(-25).join('\n');
  throw new Error(
    `${program} ${argv.join(' ')} failed (${cause}); the end of ${relative(ROOT, LOG)}:\n${tail}`,
  );
}

/** Files below the directories whose name the pattern matches, sorted, without build output. */
function filesBelow(directories, pattern) {
  const found = [];
  for (const directory of directories) {
    if (!existsSync(join(ROOT, directory))) continue;
    for (const entry of readdirSync(join(ROOT, directory), { recursive: true, withFileTypes: true })) {
      const path = join(entry.parentPath ?? entry.path, entry.name);
      const generated = path.split(sep).some((part) => part === 'build' || part === 'node_modules');
      if (entry.isFile() && pattern.test(entry.name) && !generated) found.push(path);
    }
  }
  return found.sort();
}

function digestOf(files, ...also) {
  const hash = createHash('sha256').update(JSON.stringify(also));
  for (const file of files) {
    hash.update(`\0${relative(ROOT, file)}\0`).update(existsSync(file) ? readFileSync(file) : 'absent');
  }
  return hash.digest('hex');
}

function readStamp(file) {
  return existsSync(file) ? readFileSync(file, 'utf8').trim() : undefined;
}

// What a compiled add-on is tied to beside its sources.
const RUNTIME = [process.version, process.versions.modules, process.platform, process.arch];

const nativeDigest = () => digestOf(filesBelow(['src'], /\.(cc|cpp|c|h|hpp|S|gyp|gypi)$/), RUNTIME);
const lockDigest = () => digestOf([join(ROOT, 'package-lock.json')]);
const tapDigest = () => digestOf([join(ROOT, '.taprc'), join(ROOT, 'package-lock.json')]);
const distDigest = () =>
  digestOf(
    [
      ...filesBelow(['events', 'projections', 'src', 'cli'], /\.ts$/),
      ...['tsconfig.json', 'package-lock.json', 'package.json'].map((name) => join(ROOT, name)),
      BUNDLER,
    ],
    nativeDigest(),
  );

/**
 * True when npm's own record of the tree holds every package of the lock file at its version, so that a developer's
 * `npm install` is not thrown away and done again.
 */
function modulesMatchLock() {
  const record = join(MODULES, '.package-lock.json');
  if (!existsSync(record)) return false;
  const installed = JSON.parse(readFileSync(record, 'utf8')).packages;
  const wanted = JSON.parse(readFileSync(join(ROOT, 'package-lock.json'), 'utf8')).packages;
  return Object.entries(wanted).every(
    ([path, entry]) => path === '' || entry.optional === true || installed[path]?.version === entry.version,
  );
}

/** True when all that `npm ci` misses in the lock file is other platforms' optional packages: those it names without a version. */
function onlyForeignPackagesMissing() {
  const complaints = readFileSync(LOG, 'utf8').match(/^npm error (Missing|Invalid): .*$/gm) ?? [];
  return complaints.length > 0 && complaints.every((line) => /Missing: \S+@ from lock file$/.test(line));
}

function installModules() {
  const options = ['--ignore-scripts', '--no-audit', '--no-fund'];
  try {
    run('npm', ['ci', ...options]);
  } catch (error) {
    // A lock file written against a registry that lacks some platforms' binaries has no entries for them, which `npm ci`
    // refuses on every platform. `npm install` takes the same locked versions, checked against the same hashes.
    if (!existsSync(LOG) || !onlyForeignPackagesMissing()) throw error;
    run('npm', ['install', '--no-save', ...options]);
  }
}

const MODULES_STAMP = join(MODULES, '.arctic-prepared');
const TAP_STAMP = join(MODULES, '.arctic-tap-built');
const NATIVE_STAMP = join(NATIVE, 'build', '.arctic-sources');
const DIST_STAMP = join(DIST, '.arctic-sources');

function nodeGyp(directory) {
  // Headers beside the node binary save the download that node-gyp does otherwise.
  const prefix = dirname(dirname(process.execPath));
  const local = existsSync(join(prefix, 'include', 'node', 'node.h')) ? [`--nodedir=${prefix}`] : [];
  const program = join(MODULES, 'node-gyp', 'bin', 'node-gyp.js');
  run(process.execPath, [program, 'rebuild', '--release', '--jobs=max', '-C', directory, ...local]);
}

/** Loaded in a process of its own: a broken binary must not take this one down, nor stay mapped while it is rebuilt. */
function sqliteLoads() {
  const script = "new (require('better-sqlite3'))(':memory:').close()";
  return spawnSync(process.execPath, ['-e', script], { cwd: ROOT, stdio: 'ignore' }).status === 0;
}

// Trying costs a process start; the stamp remembers the answer for this runtime.
const SQLITE_STAMP = join(MODULES, '.arctic-sqlite-loads');
const sqliteDigest = () => digestOf([join(MODULES, 'better-sqlite3', 'package.json')], RUNTIME);
const SQLITE_BINARY = join(MODULES, 'better-sqlite3', 'build', 'Release', 'better_sqlite3.node');

const STEPS = [
  {
    name: 'install programs',
    modes: MODES,
    needed: (mode) => missingPrograms(mode).length > 0,
    act(mode) {
      const missing = missingPrograms(mode);
      installPrograms(missing, run);
      return `installed ${missing.join(', ')}`;
    },
  },
  {
    name: 'install node_modules',
    modes: MODES,
    needed: () => readStamp(MODULES_STAMP) !== lockDigest(),
    act() {
      const present = modulesMatchLock();
      if (!present) installModules();
      writeFileSync(MODULES_STAMP, `${lockDigest()}\n`);
      return present
        ? 'node_modules already match package-lock.json'
        : 'installed node_modules from package-lock.json';
    },
  },
  {
    name: 'build better-sqlite3',
    modes: ['build', 'test', 'demo'],
    needed: () => readStamp(SQLITE_STAMP) !== sqliteDigest() || !existsSync(SQLITE_BINARY),
    act() {
      const present = sqliteLoads();
      if (!present) {
        say('building better-sqlite3 from source, about two minutes');
        nodeGyp(join(MODULES, 'better-sqlite3'));
        if (!sqliteLoads())
          throw new Error('better-sqlite3 was built but does not load; remove node_modules and run again');
      }
      writeFileSync(SQLITE_STAMP, `${sqliteDigest()}\n`);
      return present ? 'better-sqlite3 loads' : 'built better-sqlite3';
    },
  },
  {
    name: 'build the native add-on',
    modes: ['build', 'test', 'demo'],
    needed: () => !existsSync(ADDON) || readStamp(NATIVE_STAMP) !== nativeDigest(),
    act() {
      const digest = nativeDigest();
      nodeGyp(NATIVE);
      writeFileSync(NATIVE_STAMP, `${digest}\n`);
      return 'built the native add-on';
    },
  },
  {
    name: 'build dist',
    modes: ['build', 'test', 'demo'],
    needed: () => readStamp(DIST_STAMP) !== distDigest(),
    act() {
      const digest = distDigest();
      const next = join(SCRATCH, 'dist-next');
      rmSync(next, { recursive: true, force: true });
      run(process.execPath, [BUNDLER, next]);
      // Looked for upwards from the module that loads it.
      const addon = join(next, relative(ROOT, ADDON));
      mkdirSync(dirname(addon), { recursive: true });
      copyFileSync(ADDON, addon);
      chmodSync(join(next, 'cli', 'main.js'), 0o755);
      writeFileSync(join(next, '.arctic-sources'), `${digest}\n`);
      rmSync(DIST, { recursive: true, force: true });
      renameSync(next, DIST);
      return 'built dist';
    },
  },
  {
    name: 'build the test runner',
    modes: ['test'],
    needed: () => readStamp(TAP_STAMP) !== tapDigest(),
    act() {
      // tap composes its test class from the plugins .taprc names; until then it loads TypeScript 7 and fails.
      run(process.execPath, [join(MODULES, 'tap', 'dist', 'esm', 'run.mjs'), 'build']);
      writeFileSync(TAP_STAMP, `${tapDigest()}\n`);
      return 'built the test runner';
    },
  },
];

function checkNode() {
  const version = process.versions.node.split('.').map(Number);
  const at = OLDEST_NODE.findIndex((wanted, index) => version[index] !== wanted);
  if (at !== -1 && version[at] < OLDEST_NODE[at]) {
    throw new Error(`Node ${OLDEST_NODE.join('.')} or newer is needed, this is ${process.version}`);
  }
}

const stepsOf = (mode) => STEPS.filter((step) => step.modes.includes(mode));

function act(mode) {
  for (const step of stepsOf(mode)) {
    if (!step.needed(mode)) continue;
    const begun = Date.now();
    const done = step.act(mode);
    say(`${done} (${((Date.now() - begun) / 1000).toFixed(1)} s)`);
  }
}

/**
 * Brings the clone to what the mode needs. Two runs at once take turns: the kernel's own file lock is held by `flock`
 * around a child that does the work, so a killed run leaves no stale lock. Throws with what to do about it.
 */
export function prepare(mode) {
  if (!MODES.includes(mode)) throw new Error(`unknown mode ${mode}; one of ${MODES.join(', ')}`);
  checkNode();
  if (!stepsOf(mode).some((step) => step.needed(mode))) return;
  const flock = findProgram('flock');
  if (flock === undefined || process.env.ARCTIC_PREPARE_LOCKED === ROOT) {
    act(mode);
    return;
  }
  mkdirSync(SCRATCH, { recursive: true });
  const lock = join(SCRATCH, 'prepare.lock');
  const self = [process.execPath, fileURLToPath(import.meta.url), mode];
  const { status, signal } = spawnSync(flock, ['--close', '--exclusive', lock, ...self], {
    cwd: ROOT,
    stdio: ['ignore', 'inherit', 'inherit'],
    env: { ...process.env, ARCTIC_PREPARE_LOCKED: ROOT },
  });
  // The child has said why.
  if (status !== 0) throw Object.assign(new Error(signal ?? `exit code ${status}`), { reported: true });
}

/** `prepare` for a command line: says what went wrong and returns the exit code. */
export function prepareOrExplain(mode) {
  try {
    prepare(mode);
    return 0;
  } catch (error) {
    if (error.reported !== true) say(error.message);
    return 1;
  }
}

if (process.argv[1] !== undefined && fileURLToPath(import.meta.url) === process.argv[1]) {
  process.exitCode = prepareOrExplain(process.argv[2] ?? '');
}
