import { mkdirSync, readFileSync, realpathSync, renameSync, statSync } from 'node:fs';
import { homedir } from 'node:os';
import { dirname, join } from 'node:path';
import { writePrivateFile } from '../src/identity/private-file.ts';
import { type Config, EMPTY_CONFIG } from './config.ts';
import { configurationFailure, errorCode, systemReason } from './failure.ts';

const DEFAULT_RETENTION = 3;

type Environment = Readonly<Record<string, string | undefined>>;

/** `$XDG_CONFIG_HOME/arctic`; the XDG base directory rules say that a relative value is to be ignored. */
export function configDirectory(env: Environment): string {
  const base = env['XDG_CONFIG_HOME'];
  const home = env['HOME'] || homedir();
  return join(base?.startsWith('/') ? base : join(home, '.config'), 'arctic');
}

export const configPath = (env: Environment, flag: string | undefined): string =>
  flag ?? (env['ARCTIC_CONFIG'] || join(configDirectory(env), 'config.yaml'));

/** `Warning` text when others can read a file that holds secrets, else undefined. */
export function exposure(path: string): string | undefined {
  const mode = statSync(path).mode & 0o777;
  if ((mode & 0o077) === 0) return undefined;
  return `${path} holds secrets and others can read it (mode 0${mode.toString(8)}): run 'chmod 600 ${path}'.`;
}

/**
 * Reads and checks the file. A missing file is an empty configuration.
 * @throws Failure (configuration) naming file and line.
 */
export async function readConfig(path: string, warn: (text: string) => void): Promise<Config> {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
    const exposed = exposure(path);
    if (exposed !== undefined) warn(`Warning: ${exposed}`);
  } catch (error) {
    if (errorCode(error) === 'ENOENT') return EMPTY_CONFIG;
    throw configurationFailure(`cannot read the configuration ${path}: ${systemReason(error)}.`);
  }
  const { parseConfig } = await import('./config-schema.ts');
  return parseConfig(text, path);
}

/** Replaces the file whole or not at all, readable by its owner only. A symbolic link stays one. */
export function writeOwnFile(path: string, text: string): void {
  let target = path;
  try {
    target = realpathSync(path);
  } catch (error) {
    if (errorCode(error) !== 'ENOENT') throw error;
  }
  mkdirSync(dirname(target), { recursive: true, mode: 0o700 });
  writePrivateFile(target, text, { replace: true });
}

function keepOldVersions(path: string, retention: number): void {
  if (retention <= 0) return;
  let current: string;
  try {
    current = readFileSync(path, 'utf8');
  } catch (error) {
    if (errorCode(error) === 'ENOENT') return;
    throw error;
  }
  for (let age = retention - 1; age >= 1; age--) {
    try {
      renameSync(`${path}.${age}`, `${path}.${age + 1}`);
    } catch (error) {
      if (errorCode(error) !== 'ENOENT') throw error;
    }
  }
  writeOwnFile(`${path}.1`, current);
}

/**
 * Changes the file: reads it again, applies `change`, and writes the result in one step. Comments and unknown fields of
 * the file stay. @throws Failure (configuration)
 */
export async function updateConfig(path: string, change: (config: Config) => Config): Promise<Config> {
  const { parseConfig, renderConfig } = await import('./config-schema.ts');
  let text = '';
  try {
    text = readFileSync(path, 'utf8');
  } catch (error) {
    if (errorCode(error) !== 'ENOENT')
      throw configurationFailure(`cannot read the configuration ${path}: ${systemReason(error)}.`);
  }
  const config = change(text === '' ? EMPTY_CONFIG : parseConfig(text, path));
  const rendered = renderConfig(text, config);
  if (rendered === text) return config;
  try {
    keepOldVersions(path, config.preferences.backup_retention ?? DEFAULT_RETENTION);
    writeOwnFile(path, rendered);
  } catch (error) {
    const cause = error instanceof Error && error.cause !== undefined ? error.cause : error;
    throw configurationFailure(`cannot write the configuration ${path}: ${systemReason(cause)}.`);
  }
  return config;
}
