import { existsSync, readdirSync, readFileSync, statfsSync, statSync } from 'node:fs';
import { release } from 'node:os';
import { dirname, join } from 'node:path';
import { ArcticError } from '../../events/errors.ts';
import type { Facts } from '../../src/health/facts.ts';
import { loadTrustRoots } from '../../src/identity/trust-roots.ts';
import type { AgentSettings } from '../agent-settings.ts';
import { runProgram, systemdRuns } from '../setup/systemd.ts';
import { agentProgram, programOfUnit, UNIT_PATH, unitIsEnabled } from '../setup/unit.ts';
import { holderOf, type Listener, readListeners } from './sockets.ts';

/** linux/capability.h */
const CAP_NET_ADMIN = 12n;

/** Whether this process may change the network: CapEff of proc(5), status. */
export function hasNetAdmin(): boolean {
  try {
    const effective = /^CapEff:\s*([0-9a-f]+)$/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1];
    return effective !== undefined && ((BigInt(`0x${effective}`) >> CAP_NET_ADMIN) & 1n) === 1n;
  } catch {
    return false;
  }
}

/** The nearest directory above that exists. */
function existing(path: string): string {
  return existsSync(path) || dirname(path) === path ? path : existing(dirname(path));
}

function freeBytes(path: string): number | undefined {
  try {
    const { bavail, bsize } = statfsSync(existing(path));
    return bavail * bsize;
  } catch {
    return undefined;
  }
}

/**
 * Whether NTP keeps the clock, as systemd knows it of whatever does it (timesyncd, chrony, ntpd); undefined where systemd does
 * not run.
 */
export async function clockSynchronised(): Promise<boolean | undefined> {
  if (!systemdRuns()) return undefined;
  const { code, output } = await runProgram('timedatectl', ['show', '-p', 'NTPSynchronized', '--value'], {
    timeoutMs: 3_000,
  });
  const said = output.trim();
  return code === 0 && (said === 'yes' || said === 'no') ? said === 'yes' : undefined;
}

export const hostFacts = (dataDir: string): Omit<NonNullable<Facts['host']>, 'clockSynchronised'> => ({
  platform: process.platform,
  kernelRelease: release(),
  node: process.version,
  netAdmin: hasNetAdmin(),
  dataDir,
  freeBytes: freeBytes(dataDir),
});

/** Who holds the agent's ports. An agent that answers holds its own, even where this user may not see whose they are. */
export function portFacts(
  { settings }: AgentSettings,
  agentAnswers: boolean,
  listeners: readonly Listener[] = readListeners(),
): Facts['ports'] {
  if (settings === undefined) return undefined;
  const wanted = [
    { port: settings.apiPort, protocol: 'tcp', setting: 'API_PORT', use: 'the API' },
    { port: settings.tproxyPort, protocol: 'tcp', setting: 'TPROXY_PORT', use: 'carriers' },
    { port: settings.tproxyPort, protocol: 'udp', setting: 'TPROXY_PORT', use: 'carriers over KCP' },
    { port: settings.tunnelPort, protocol: 'udp', setting: 'TUNNEL_PORT', use: 'the IP tunnel' },
  ] as const;
  return wanted.map((one) => {
    const found = listeners.find(({ port, protocol }) => port === one.port && protocol === one.protocol);
    if (found === undefined) return { ...one, holder: 'nobody', program: undefined };
    const holder = holderOf(found.inode);
    const ours = holder === undefined ? agentAnswers : holder.name === 'arctic';
    return {
      ...one,
      holder: ours ? 'arctic' : 'other',
      program: holder === undefined ? undefined : `${holder.name} (process ${holder.pid})`,
    };
  });
}

export function trustFacts({ configDir }: AgentSettings): NonNullable<Facts['trust']> {
  const directory = join(configDir, 'trust-roots');
  try {
    return { directory, roots: loadTrustRoots(directory).length, fault: undefined };
  } catch (error) {
    if (!(error instanceof ArcticError)) throw error;
    return { directory, roots: 0, fault: error.message };
  }
}

const modeOf = (path: string): number | undefined => {
  try {
    return statSync(path).mode & 0o777;
  } catch {
    return undefined;
  }
};

/** The log and its key. Undefined when this user may not look. `full` verifies every event, else the newest thousand. */
export async function databaseFacts({ dataDir }: AgentSettings, full: boolean): Promise<Facts['database']> {
  const path = join(dataDir, 'arctic.db');
  const keyPath = join(dataDir, 'peer.key');
  try {
    if (existsSync(dataDir)) readdirSync(dataDir);
  } catch {
    return undefined;
  }
  const keyMode = modeOf(keyPath);
  const key = keyMode === undefined ? 'missing' : (keyMode & 0o077) === 0 ? 'present' : 'exposed';
  const common = { path, keyPath, key } as const;
  if (!existsSync(path)) return { ...common, exists: false, fault: undefined, newestEvent: undefined };
  const { openLogReader } = await import('../../events/log.ts');
  const { timeOf } = await import('../../events/hlc.ts');
  try {
    const log = openLogReader({ path, verify: full ? 'full' : 'tail' });
    try {
      // Local events concern nobody else, and may be dated by a clock that was wrong when the host booted.
      const newest = log.chains().find(({ origin, stream }) => origin === log.origin && stream === 'config');
      return {
        ...common,
        exists: true,
        fault: undefined,
        newestEvent: newest === undefined ? undefined : timeOf(newest.hlc),
      };
    } finally {
      log.close();
    }
  } catch (error) {
    if (!(error instanceof ArcticError)) throw error;
    return { ...common, exists: true, fault: error.message, newestEvent: undefined };
  }
}

/** What installations before this one, or beside it, leave: they kept rules in files and ran the proxy as a daemon. */
const REMNANTS: readonly { readonly directory: string; readonly pattern: RegExp; readonly what: string }[] = [
  { directory: '/etc/nftables.d', pattern: /^(arctic|tillered).*\.(nft|conf)$/, what: 'a rules file' },
  { directory: '/etc/arctic', pattern: /\.nft$/, what: 'a rules file' },
  {
    directory: '/etc/systemd/system',
    pattern: /^(arctic-.+|tillered.*)\.service$/,
    what: 'a unit of its own',
  },
  { directory: '/etc/wireguard', pattern: /^arctic.*\.conf$/, what: 'a kernel tunnel' },
];

const entriesOf = (directory: string): readonly string[] => {
  try {
    return readdirSync(directory);
  } catch {
    return [];
  }
};

export function installFacts({ dataDir, configDir }: AgentSettings): NonNullable<Facts['install']> {
  const systemd = existsSync('/run/systemd/system');
  const program = programOfUnit();
  const exposed = [
    join(dataDir, 'peer.key'),
    join(dataDir, 'arctic.db'),
    join(configDir, 'recovery.token'),
  ].flatMap((path) => {
    const mode = modeOf(path);
    return mode === undefined || (mode & 0o077) === 0 ? [] : [{ path, mode: `0${mode.toString(8)}` }];
  });
  return {
    systemd,
    program: agentProgram().join(' '),
    unit: program === undefined ? undefined : { path: UNIT_PATH, enabled: unitIsEnabled(), program },
    remnants: REMNANTS.flatMap(({ directory, pattern, what }) =>
      entriesOf(directory)
        .filter((name) => pattern.test(name))
        .map((name) => ({ path: join(directory, name), what })),
    ),
    exposed,
  };
}
