import { chmodSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { EXIT } from '../../events/errors.ts';
import { writePrivateFile } from '../../src/identity/private-file.ts';
import {
  DEFAULT_CONFIG_DIR,
  DEFAULT_DATA_DIR,
  parseEnvironmentFile,
  SETTING_NAMES,
} from '../agent-settings.ts';
import { errorCode, Failure, systemReason, usageFailure } from '../failure.ts';
import { runProgram } from './systemd.ts';
import { agentProgram, renderUnit, UNIT_NAME, UNIT_PATH } from './unit.ts';

const MAN_PATH = '/usr/local/share/man/man1/arctic.1';

export interface InstallOptions {
  /** Prefix of everything written; with one, systemd is left alone. Empty: this host. */
  readonly root: string;
  /** Settings to write into arctic.env. */
  readonly settings: Readonly<Record<string, string>>;
  /** arctic(1). */
  readonly manPage: string;
}

export interface Step {
  readonly what: string;
  readonly done: 'created' | 'updated' | 'unchanged' | 'removed' | 'kept';
}

const ENV_HEADER = `# Settings of the Arctic agent: NAME=value, one a line. 'systemctl restart arctic' applies them.
# Names: ${SETTING_NAMES.slice(0, 7).join(' ')}
#        ${SETTING_NAMES.slice(7).join(' ')}
`;

function refuse(path: string, error: unknown): never {
  const why = systemReason(error);
  const hint = ['EACCES', 'EPERM'].includes(errorCode(error) ?? '') ? ' Run it as root.' : '';
  throw new Failure(EXIT.general, `cannot write ${path}: ${why}.${hint}`, [], { cause: error });
}

function putDirectory(path: string, mode: number): Step {
  try {
    if (existsSync(path)) return { what: path, done: 'unchanged' };
    mkdirSync(path, { recursive: true, mode });
    chmodSync(path, mode);
    return { what: path, done: 'created' };
  } catch (error) {
    return refuse(path, error);
  }
}

function putFile(path: string, text: string, mode: number): Step {
  try {
    const old = existsSync(path) ? readFileSync(path, 'utf8') : undefined;
    if (old === text) return { what: path, done: 'unchanged' };
    mkdirSync(dirname(path), { recursive: true, mode: 0o755 });
    if (mode === 0o600) writePrivateFile(path, text, { replace: true });
    else writeFileSync(path, text, { mode });
    return { what: path, done: old === undefined ? 'created' : 'updated' };
  } catch (error) {
    return refuse(path, error);
  }
}

/** A value as an environment file takes it; systemd would read quotes and backslashes in a bare one. */
const environmentValue = (value: string): string =>
  /^[\w.:/@%+,[\]-]*$/.test(value) ? value : `"${value.replaceAll(/["\\]/g, '\\$&')}"`;

/** The text of arctic.env with these settings in it; everything else in it stays as it is. */
export function mergeEnvironment(
  text: string | undefined,
  settings: Readonly<Record<string, string>>,
): string {
  const left = new Map(Object.entries(settings));
  const lines = (text ?? ENV_HEADER).replace(/\n$/, '').split('\n');
  const merged = lines.map((line) => {
    const name = /^\s*([A-Z_]+)=/.exec(line)?.[1];
    const value = name === undefined ? undefined : left.get(name);
    if (name === undefined || value === undefined) return line;
    left.delete(name);
    return `${name}=${environmentValue(value)}`;
  });
  for (const [name, value] of left) merged.push(`${name}=${environmentValue(value)}`);
  return `${merged.join('\n')}\n`;
}

/** `NAME=VALUE` words of a command line. @throws Failure (usage) */
export function parseSettings(words: readonly string[]): Record<string, string> {
  return Object.fromEntries(
    words.map((word) => {
      const at = word.indexOf('=');
      const name = word.slice(0, at);
      if (at < 1 || !(SETTING_NAMES as readonly string[]).includes(name))
        throw usageFailure(`--set takes NAME=VALUE with one of ${SETTING_NAMES.join(', ')}, not '${word}'.`);
      if (/[\n\r]/.test(word)) throw usageFailure(`--set ${name}: a value is one line.`);
      return [name, word.slice(at + 1)];
    }),
  );
}

export interface Places {
  readonly configDir: string;
  readonly dataDir: string;
  readonly environmentFile: string;
  readonly environment: Readonly<Record<string, string>>;
}

/** Where an agent installed under `root` keeps its things, by its own settings. */
export function placesUnder(root: string, settings: Readonly<Record<string, string>> = {}): Places {
  const configDir = settings['CONFIG_DIR'] || DEFAULT_CONFIG_DIR;
  const environmentFile = join(configDir, 'arctic.env');
  let before: Record<string, string> = {};
  try {
    before = parseEnvironmentFile(readFileSync(join(root, environmentFile), 'utf8'));
  } catch (error) {
    if (errorCode(error) !== 'ENOENT') refuse(join(root, environmentFile), error);
  }
  const environment = { ...before, ...settings };
  return {
    configDir,
    dataDir: environment['DATA_DIR'] || DEFAULT_DATA_DIR,
    environmentFile,
    environment,
  };
}

/** Directories and settings, which an agent needs with a unit or without one. */
export function installFiles(options: Pick<InstallOptions, 'root' | 'settings'>): readonly Step[] {
  const { root, settings } = options;
  const places = placesUnder(root, settings);
  const path = join(root, places.environmentFile);
  const steps = [
    putDirectory(join(root, places.configDir), 0o700),
    putDirectory(join(root, places.configDir, 'trust-roots'), 0o755),
    putDirectory(join(root, places.dataDir), 0o700),
  ];
  const old = existsSync(path) ? readFileSync(path, 'utf8') : undefined;
  return [...steps, putFile(path, mergeEnvironment(old, settings), 0o600)];
}

/** Writes unit, directories, settings and manual page. Running it again changes nothing. */
export function installAgent(options: InstallOptions): readonly Step[] {
  const { root, settings, manPage } = options;
  const places = placesUnder(root, settings);
  const unit = renderUnit({ program: agentProgram(), ...places });
  return [
    ...installFiles(options),
    putFile(join(root, UNIT_PATH), unit, 0o644),
    putFile(join(root, MAN_PATH), manPage, 0o644),
  ];
}

function remove(path: string): Step {
  try {
    if (!existsSync(path)) return { what: path, done: 'unchanged' };
    rmSync(path, { recursive: true });
    return { what: path, done: 'removed' };
  } catch (error) {
    return refuse(path, error);
  }
}

/** Takes away what `installAgent` wrote; data and configuration only with `purge`. */
export function uninstallAgent(root: string, purge: boolean): readonly Step[] {
  const { configDir, dataDir } = placesUnder(root);
  const own = [remove(join(root, UNIT_PATH)), remove(join(root, MAN_PATH))];
  const data = [join(root, dataDir), join(root, configDir)];
  if (!purge) return [...own, ...data.filter(existsSync).map((what) => ({ what, done: 'kept' as const }))];
  return [...own, ...data.map(remove)];
}

/** Runs systemctl; a refusal is a failure in its own words. */
export async function systemctl(...argv: readonly string[]): Promise<void> {
  const { code, output } = await runProgram('systemctl', argv);
  if (code !== 0)
    throw new Failure(
      EXIT.general,
      `'systemctl ${argv.join(' ')}' failed: ${output.trim() || `exit code ${code}`}. 'journalctl -u ${UNIT_NAME} -n 50' may say why.`,
    );
}
