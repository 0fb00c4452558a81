import { readFileSync } from 'node:fs';
import { ArcticError } from '../events/errors.ts';

/** Everything an operator can set (SPEC section 3). Read once at start; a fault names its variable. */
export interface Settings {
  readonly apiPort: number;
  readonly apiBind: string;
  readonly tunnelPort: number;
  /** Use AEGIS-128L with peers whose processors have it too. */
  readonly tunnelAegis: boolean;
  readonly tproxyPort: number;
  /** Connections at once that the TCP engine carries, entry and exit together. */
  readonly tproxyConnections: number;
  /** Of them those of one service; undefined: three quarters. */
  readonly tproxyServiceConnections: number | undefined;
  /** Seconds after which a connection that nothing moves on is reset; 0 is never. */
  readonly tproxyIdleSeconds: number;
  readonly dataDir: string;
  readonly configDir: string;
  readonly logLevel: 'trace' | 'debug' | 'info' | 'warn' | 'error' | 'fatal';
  readonly logFormat: 'logfmt' | 'json';
  /** Undefined: the interface of the default route. */
  readonly parentInterface: string | undefined;
  readonly resyncSeconds: number;
  readonly heartbeatSeconds: number;
  /** Claim the kernel's owner flag for our nftables tables, where the kernel has it. */
  readonly firewallOwner: boolean;
  /** Start although iptables-legacy has rules where ours are. */
  readonly allowXtables: boolean;
  /** Report what differs from the desired state and change nothing. */
  readonly observeOnly: boolean;
  /** `host:port` given to other peers; undefined: derived from the parent interface and the API port. */
  readonly advertiseAddress: string | undefined;
  readonly tls: { readonly cert: Buffer; readonly key: Buffer } | undefined;
}

type Environment = Readonly<Record<string, string | undefined>>;

const refuse = (name: string, value: string, wants: string): never => {
  throw new ArcticError(
    'INVALID_REQUEST',
    `${name}=${JSON.stringify(value)} is not usable: it must be ${wants}.`,
  );
};

function integer(env: Environment, name: string, fallback: number, min: number, max: number): number {
  const raw = env[name];
  if (raw === undefined || raw === '') return fallback;
  const value = Number(raw);
  if (!/^\d+$/.test(raw) || value < min || value > max)
    return refuse(name, raw, `a whole number from ${min} to ${max}`);
  return value;
}

function oneOf<T extends string>(env: Environment, name: string, fallback: T, allowed: readonly T[]): T {
  const raw = env[name];
  if (raw === undefined || raw === '') return fallback;
  return allowed.find((one) => one === raw) ?? refuse(name, raw, `one of ${allowed.join(', ')}`);
}

function directory(env: Environment, name: string, fallback: string): string {
  const raw = env[name];
  if (raw === undefined || raw === '') return fallback;
  return raw.startsWith('/') ? raw : refuse(name, raw, 'an absolute path');
}

function pattern(env: Environment, name: string, shape: RegExp, wants: string): string | undefined {
  const raw = env[name];
  if (raw === undefined || raw === '') return undefined;
  return shape.test(raw) ? raw : refuse(name, raw, wants);
}

function tlsFiles(env: Environment): Settings['tls'] {
  const cert = env['API_TLS_CERT'];
  const key = env['API_TLS_KEY'];
  if (!cert && !key) return undefined;
  if (!cert) return refuse('API_TLS_CERT', '', 'set together with API_TLS_KEY');
  if (!key) return refuse('API_TLS_KEY', '', 'set together with API_TLS_CERT');
  const read = (name: string, path: string): Buffer => {
    try {
      return readFileSync(path);
    } catch (error) {
      return refuse(
        name,
        path,
        `a readable PEM file (${error instanceof Error ? error.message : String(error)})`,
      );
    }
  };
  return { cert: read('API_TLS_CERT', cert), key: read('API_TLS_KEY', key) };
}

/** Reads and checks the environment; throws one ArcticError that names the first variable at fault. */
export function readSettings(env: Environment): Settings {
  return {
    apiPort: integer(env, 'API_PORT', 8080, 1, 65_535),
    apiBind: pattern(env, 'API_BIND', /^[0-9A-Fa-f:.]+$/, 'an IP address to listen on') ?? '::',
    tunnelPort: integer(env, 'TUNNEL_PORT', 51_840, 1, 65_535),
    tunnelAegis: oneOf(env, 'TUNNEL_AEGIS', '1', ['1', '0']) === '1',
    tproxyPort: integer(env, 'TPROXY_PORT', 61_000, 1, 65_535),
    tproxyConnections: integer(env, 'TPROXY_CONNECTIONS', 8_192, 1, 500_000),
    tproxyServiceConnections: integer(env, 'TPROXY_SERVICE_CONNECTIONS', 0, 0, 500_000) || undefined,
    tproxyIdleSeconds: integer(env, 'TPROXY_IDLE_SECONDS', 0, 0, 604_800),
    dataDir: directory(env, 'DATA_DIR', '/opt/tillered'),
    configDir: directory(env, 'CONFIG_DIR', '/etc/arctic'),
    logLevel: oneOf(env, 'LOG_LEVEL', 'info', ['trace', 'debug', 'info', 'warn', 'error', 'fatal']),
    logFormat: oneOf(env, 'LOG_FORMAT', 'logfmt', ['logfmt', 'json']),
    parentInterface: pattern(
      env,
      'PARENT_INTERFACE',
      /^[^\s/:]{1,15}$/,
      'an interface name of 1 to 15 characters',
    ),
    resyncSeconds: integer(env, 'RESYNC_SECONDS', 60, 1, 86_400),
    heartbeatSeconds: integer(env, 'HEARTBEAT_SECONDS', 5, 1, 3_600),
    firewallOwner: oneOf(env, 'FIREWALL_OWNER', '1', ['1', '0']) === '1',
    allowXtables: oneOf(env, 'ALLOW_XTABLES', '0', ['1', '0']) === '1',
    observeOnly: oneOf(env, 'OBSERVE_ONLY', '0', ['1', '0']) === '1',
    advertiseAddress: pattern(
      env,
      'ADVERTISE_ADDRESS',
      /^(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):[0-9]{1,5}$/,
      'host:port, as other peers reach this agent',
    ),
    tls: tlsFiles(env),
  };
}
