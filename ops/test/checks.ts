/** What is checked without running the product: types, lint and format, and who imports whom. */
import { spawn } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';

export const ROOT = dirname(dirname(dirname(fileURLToPath(import.meta.url))));

export interface CheckResult {
  readonly passed: boolean;
  /** One line for a passed check, everything found for a failed one. */
  readonly report: string;
}

export interface Check {
  readonly name: string;
  /** `root`: the tree to check; its node_modules must hold the tools. */
  run(root: string): Promise<CheckResult>;
}

interface Finished {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

function runTool(root: string, script: string, argv: readonly string[]): Promise<Finished> {
  return new Promise((resolve, reject) => {
    // tap puts a loader into every process a test starts, which the TypeScript launcher does not bear.
    const command = ['-u', 'NODE_OPTIONS', process.execPath, join(ROOT, 'node_modules', script), ...argv];
    const child = spawn('env', command, {
      cwd: root,
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...process.env, NO_COLOR: '1', FORCE_COLOR: '0' },
    });
    let stdout = '';
    let stderr = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      stdout += text;
    });
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      stderr += text;
    });
    child.once('error', reject);
    child.once('close', (code) => resolve({ code, stdout, stderr }));
  });
}

const types: Check = {
  name: 'types',
  async run(root) {
    const { code, stdout, stderr } = await runTool(root, 'typescript/bin/tsc', [
      '--noEmit',
      '--pretty',
      'false',
    ]);
    return { passed: code === 0, report: code === 0 ? 'no errors' : `${stdout}${stderr}`.trim() };
  },
};

const style: Check = {
  name: 'lint and format',
  async run(root) {
    const argv = ['ci', '--colors=off', '--error-on-warnings', '--max-diagnostics=50', '.'];
    const { code, stdout, stderr } = await runTool(root, '@biomejs/biome/bin/biome', argv);
    const output = `${stdout}${stderr}`.trim();
    const count = /Checked (\d+) files?/.exec(output)?.[1];
    // A configuration that matches no file is no proof of anything.
    if (code === 0 && (count === undefined || count === '0'))
      return { passed: false, report: `no file checked\n${output}` };
    return { passed: code === 0, report: code === 0 ? `${count} files` : output };
  },
};

/** As dependency-cruiser's JSON reporter prints them; only what is read here. */
interface Cruise {
  readonly modules: readonly {
    readonly source: string;
    readonly dependencies: readonly { readonly resolved: string; readonly dynamic: boolean }[];
  }[];
  readonly summary: {
    readonly violations: readonly {
      readonly from: string;
      readonly to: string;
      readonly rule: { readonly name: string; readonly severity: string };
      readonly cycle?: readonly { readonly name: string }[];
      readonly comment?: string;
    }[];
    readonly ruleSetUsed?: {
      readonly forbidden?: readonly { readonly name: string; readonly comment?: string }[];
    };
  };
}

const PRODUCT = ['events', 'projections', 'src', 'cli'];
const SOURCES = [...PRODUCT, 'fixtures', 'ops', 'test'];

function sourcesOf(root: string, directories: readonly string[]): string[] {
  return directories
    .filter((directory) => existsSync(join(root, directory)))
    .flatMap((directory) => readdirSync(join(root, directory), { recursive: true, withFileTypes: true }))
    .filter((entry) => entry.isFile() && entry.name.endsWith('.ts'))
    .map((entry) => relative(root, join(entry.parentPath, entry.name)))
    .filter((path) => !path.includes('node_modules'))
    .sort();
}

// The CLI also runs where these do not load (an operator's Mac).
const NOT_FOR_CLI =
  /^src\/(native|kernel|engines)\/|^src\/agent\.ts$|node_modules\/better-sqlite3\/|^better-sqlite3$/;

/** Chains of static imports by which loading the CLI would load native code. */
function cliReachesNative(cruise: Cruise): string[] {
  const staticImports = new Map(
    cruise.modules.map(({ source, dependencies }) => [
      source,
      dependencies.filter(({ dynamic }) => !dynamic).map(({ resolved }) => resolved),
    ]),
  );
  const found: string[] = [];
  const seen = new Set<string>();
  const open = [...staticImports.keys()]
    .filter((source) => source.startsWith('cli/'))
    .map((source) => [source]);
  for (let chain = open.shift(); chain !== undefined; chain = open.shift()) {
    const last = chain.at(-1) ?? '';
    if (seen.has(last)) continue;
    seen.add(last);
    if (NOT_FOR_CLI.test(last)) found.push(`cli-loads-no-native-code: ${chain.join(' -> ')}`);
    else open.push(...(staticImports.get(last) ?? []).map((next) => [...(chain ?? []), next]));
  }
  return found;
}

function hasImport(text: string): boolean {
  return /^(import|export)\b[^;'"]*\bfrom '/m.test(text);
}

/** `process.dlopen` is no import, so no graph shows it. */
function strayLoaders(root: string): string[] {
  return sourcesOf(root, PRODUCT)
    .filter(
      (path) =>
        path !== 'src/native/addon.ts' && /\bdlopen\s*\(/.test(readFileSync(join(root, path), 'utf8')),
    )
    .map((path) => `one-file-loads-the-add-on: ${path} calls dlopen`);
}

const dependencies: Check = {
  name: 'dependency rule',
  async run(root) {
    const present = SOURCES.filter((directory) => existsSync(join(root, directory)));
    const argv = ['--config', '.dependency-cruiser.cjs', '--output-type', 'json', ...present];
    const { stdout, stderr } = await runTool(root, 'dependency-cruiser/bin/dependency-cruise.mjs', argv);
    let cruise: Cruise;
    try {
      cruise = JSON.parse(stdout) as Cruise;
    } catch {
      return {
        passed: false,
        report: `dependency-cruiser gave no report\n${stdout.slice(0, 2000)}${stderr}`.trim(),
      };
    }
    const cruised = new Set(cruise.modules.map(({ source }) => source));
    const sources = sourcesOf(root, present);
    const missed = sources.filter((path) => !cruised.has(path));
    // A cruiser that finds files but cannot read them sees no imports.
    const silent = cruise.modules.filter(
      ({ source, dependencies }) =>
        dependencies.length === 0 &&
        sources.includes(source) &&
        hasImport(readFileSync(join(root, source), 'utf8')),
    );
    const imports = cruise.modules.reduce((sum, module) => sum + module.dependencies.length, 0);
    const comments = new Map(
      cruise.summary.ruleSetUsed?.forbidden?.map(({ name, comment }) => [name, comment]),
    );
    const problems = [
      ...missed.map((path) => `not read: ${path}`),
      ...silent.map(({ source }) => `no import was read of: ${source}`),
      ...(sources.length === 0 ? ['there are no sources'] : []),
      ...cruise.summary.violations.map(({ rule, from, to, cycle }) => {
        const path = cycle === undefined ? to : cycle.map(({ name }) => name).join(' -> ');
        return `${rule.name}: ${from} -> ${path} (${comments.get(rule.name) ?? rule.severity})`;
      }),
      ...cliReachesNative(cruise),
      ...strayLoaders(root),
    ];
    const passed = problems.length === 0;
    return { passed, report: passed ? `${sources.length} modules, ${imports} imports` : problems.join('\n') };
  },
};

export const CHECKS: readonly Check[] = [types, style, dependencies];
export { dependencies as checkDependencies, style as checkStyle, types as checkTypes };
