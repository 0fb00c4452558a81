/** What the agent needs of its host before anything else runs, and what it finds out about it. */
import { accessSync, constants, mkdirSync, readFileSync } from 'node:fs';
import { isIPv6 } from 'node:net';
import { ArcticError } from '../events/errors.ts';
import type { Address, Rtnetlink } from './kernel/contract.ts';
import type { Settings } from './settings.ts';

/** Bit numbers of linux/capability.h. */
const CAP_NET_ADMIN = 12n;

/** Makes the data and configuration directories (0700) and checks that they can be written. */
export function prepareDirectories(settings: Pick<Settings, 'dataDir' | 'configDir'>): void {
  for (const [name, path] of [
    ['DATA_DIR', settings.dataDir],
    ['CONFIG_DIR', settings.configDir],
  ] as const) {
    try {
      mkdirSync(path, { recursive: true, mode: 0o700 });
      accessSync(path, constants.R_OK | constants.W_OK | constants.X_OK);
    } catch (error) {
      const reason = error instanceof Error && 'code' in error ? String(error.code) : String(error);
      throw new ArcticError(
        'UNAVAILABLE',
        `${name} ${path} cannot be used (${reason}); it must be a directory that this agent can write, on a file system with space.`,
      );
    }
  }
}

/** Refuses to start without CAP_NET_ADMIN: nothing the agent is for would work. */
export function requireNetAdmin(status: string = readFileSync('/proc/self/status', 'utf8')): void {
  const effective = /^CapEff:\s*([0-9a-f]+)$/m.exec(status)?.[1];
  if (effective !== undefined && ((BigInt(`0x${effective}`) >> CAP_NET_ADMIN) & 1n) === 1n) return;
  throw new ArcticError(
    'FORBIDDEN',
    'the agent needs CAP_NET_ADMIN to write firewall rules and interfaces; start it as root or by its systemd unit (systemctl start arctic).',
  );
}

/** The interface of the default route, IPv4 before IPv6, the lowest metric first; undefined when there is none. */
export async function defaultInterface(rt: Rtnetlink): Promise<string | undefined> {
  const MAIN = 254;
  const routes = await rt.routes({ table: MAIN });
  const [best] = routes
    .filter((route) => /^(0\.0\.0\.0|::)\/0$/.test(route.destination) && route.oif !== undefined)
    .sort((a, b) => Number(a.family === 'ipv6') - Number(b.family === 'ipv6') || a.metric - b.metric);
  if (best === undefined) return undefined;
  return (await rt.links()).find((link) => link.index === best.oif)?.name;
}

/** Not the host's own business only: neither link-local nor loopback (RFC 4291, RFC 3927). */
const routable = (address: Address): boolean => !/^(127\.|169\.254\.|::1\/|fe[89ab])/i.test(address.cidr);

/**
 * `host:port` that other peers are given: what the operator set, else the first routable address of the parent
 * interface, IPv4 before IPv6. Undefined when there is neither.
 */
export async function advertisedAddress(
  settings: Pick<Settings, 'advertiseAddress' | 'apiPort' | 'parentInterface'>,
  rt: Rtnetlink,
): Promise<string | undefined> {
  if (settings.advertiseAddress !== undefined) return settings.advertiseAddress;
  const name = settings.parentInterface ?? (await defaultInterface(rt));
  const link = (await rt.links()).find((one) => one.name === name);
  if (link === undefined) return undefined;
  const addresses = (await rt.addresses(link.index)).filter(routable);
  const chosen = addresses.find((one) => one.family === 'ipv4') ?? addresses[0];
  const host = chosen?.cidr.split('/')[0];
  if (host === undefined) return undefined;
  return isIPv6(host) ? `[${host}]:${settings.apiPort}` : `${host}:${settings.apiPort}`;
}
