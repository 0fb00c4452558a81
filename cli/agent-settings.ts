import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { ArcticError, EXIT } from '../events/errors.ts';
import { readSettings, type Settings } from '../src/settings.ts';
import { errorCode, Failure, systemReason } from './failure.ts';

type Environment = Readonly<Record<string, string | undefined>>;

/** Everything `arctic agent` reads of its environment (SPEC section 3). */
export const SETTING_NAMES = [
  'API_PORT',
  'API_BIND',
  'API_TLS_CERT',
  'API_TLS_KEY',
  'TUNNEL_PORT',
  'TUNNEL_AEGIS',
  'TPROXY_PORT',
  'TPROXY_CONNECTIONS',
  'TPROXY_SERVICE_CONNECTIONS',
  'TPROXY_IDLE_SECONDS',
  'DATA_DIR',
  'CONFIG_DIR',
  'LOG_LEVEL',
  'LOG_FORMAT',
  'PARENT_INTERFACE',
  'RESYNC_SECONDS',
  'HEARTBEAT_SECONDS',
  'ADVERTISE_ADDRESS',
] as const;

export const DEFAULT_CONFIG_DIR = '/etc/arctic';
export const DEFAULT_DATA_DIR = '/opt/tillered';

/** Where the unit takes its settings from. */
export const environmentFile = (env: Environment): string =>
  join(env['CONFIG_DIR'] || DEFAULT_CONFIG_DIR, 'arctic.env');

/** `NAME=value` lines as systemd reads them (systemd.exec(5), EnvironmentFile=): comments, and quotes taken off. */
export function parseEnvironmentFile(text: string): Record<string, string> {
  const found: Record<string, string> = {};
  for (const line of text.split('\n')) {
    const match = /^\s*([A-Za-z_][A-Za-z0-9_]*)=(.*)$/.exec(line);
    if (match === null || /^\s*[#;]/.test(line)) continue;
    const raw = (match[2] ?? '').trim();
    const quoted = /^"((?:[^"\\]|\\.)*)"$|^'([^']*)'$/.exec(raw);
    found[match[1] ?? ''] = quoted === null ? raw : (quoted[1]?.replace(/\\(.)/g, '$1') ?? quoted[2] ?? '');
  }
  return found;
}

export interface AgentSettings {
  /** What the agent on this host is, or would be, started with. */
  readonly env: Environment;
  readonly file: string;
  /** Undefined when a setting is not usable; `fault` says which. */
  readonly settings: Settings | undefined;
  readonly fault: string | undefined;
  readonly dataDir: string;
  readonly configDir: string;
}

/** The settings of the agent on this host: those of the unit, over them those of this command's own environment. */
export function readAgentSettings(env: Environment): AgentSettings {
  const file = environmentFile(env);
  let fromFile: Record<string, string> = {};
  let fault: string | undefined;
  try {
    fromFile = parseEnvironmentFile(readFileSync(file, 'utf8'));
  } catch (error) {
    if (errorCode(error) !== 'ENOENT') fault = `${file} cannot be read: ${systemReason(error)}.`;
  }
  const own = Object.fromEntries(SETTING_NAMES.flatMap((name) => (env[name] ? [[name, env[name]]] : [])));
  const merged: Environment = { ...fromFile, ...own };
  let settings: Settings | undefined;
  try {
    settings = readSettings(merged);
  } catch (error) {
    if (!(error instanceof ArcticError)) throw error;
    fault ??= error.message;
  }
  return {
    env: merged,
    file,
    settings,
    fault,
    dataDir: settings?.dataDir ?? (merged['DATA_DIR'] || DEFAULT_DATA_DIR),
    configDir: settings?.configDir ?? (merged['CONFIG_DIR'] || DEFAULT_CONFIG_DIR),
  };
}

/** The same, for a command that cannot go on without. @throws Failure (configuration) */
export function requireAgentSettings(env: Environment): AgentSettings & { readonly settings: Settings } {
  const read = readAgentSettings(env);
  if (read.settings === undefined)
    throw new Failure(EXIT.configuration, read.fault ?? `the settings in ${read.file} are not usable.`);
  return { ...read, settings: read.settings };
}
