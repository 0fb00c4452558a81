import type { Kernel } from '../../kernel/contract.ts';
import type { Difference } from '../contract.ts';

/** Where the values found before ours are kept, so that an uninstall can put them back. */
export interface ParameterMemory {
  get(key: string): string | undefined;
  set(key: string, value: string): void;
}

export interface Parameter {
  readonly key: string;
  readonly value: string;
  /** Of a device that goes with us: nothing to put back. */
  readonly passing: boolean;
}

const FORWARD_IPV4 = 'net.ipv4.ip_forward';
const FORWARD_IPV6 = 'net.ipv6.conf.all.forwarding';
const KEPT = 'iptun.parameters';
const memoryKey = (key: string): string => `iptun.before.${key}`;

/** A dot in an interface name is written as a slash (sysctl(8)). */
const keyName = (name: string): string => name.replaceAll('.', '/');

/**
 * Kernel parameters that the tunnels need, of those that exist. Forwarding: a tunnel carries what this host routes. An
 * interface that learns its IPv6 routes from a router goes on doing so although we forward. Reverse path filtering would look
 * for the way back in the main table, which does not know the tunnel.
 */
export async function neededParameters(
  kernel: Pick<Kernel, 'sysctl'>,
  needs: { readonly ipv6: boolean; readonly devices: readonly string[]; readonly links: readonly string[] },
): Promise<readonly Parameter[]> {
  const parameters: Parameter[] = [{ key: FORWARD_IPV4, value: '1', passing: false }];
  if (needs.ipv6) {
    for (const link of needs.links) {
      const key = `net.ipv6.conf.${keyName(link)}.accept_ra`;
      if ((await kernel.sysctl.read(key)) === '1') parameters.push({ key, value: '2', passing: false });
    }
    parameters.push({ key: FORWARD_IPV6, value: '1', passing: false });
  }
  // The stricter of `all` and the device's own is in force; a loose filter is as far as it goes down from there.
  const all = await kernel.sysctl.read('net.ipv4.conf.all.rp_filter');
  for (const device of needs.devices)
    parameters.push({
      key: `net.ipv4.conf.${keyName(device)}.rp_filter`,
      value: all === undefined || all === '0' ? '0' : '2',
      passing: true,
    });
  return parameters;
}

export async function differingParameters(
  kernel: Pick<Kernel, 'sysctl'>,
  wanted: readonly Parameter[],
): Promise<readonly Difference[]> {
  const differences: Difference[] = [];
  for (const { key, value } of wanted) {
    const now = await kernel.sysctl.read(key);
    if (now !== undefined && now !== value)
      differences.push({ item: `sysctl ${key}`, desired: value, observed: now });
  }
  return differences;
}

export async function setParameters(
  kernel: Pick<Kernel, 'sysctl'>,
  wanted: readonly Parameter[],
  memory: ParameterMemory,
): Promise<void> {
  for (const { key, value, passing } of wanted) {
    const now = await kernel.sysctl.read(key);
    if (now === undefined || now === value) continue;
    if (!passing && (memory.get(memoryKey(key)) ?? '') === '') {
      memory.set(memoryKey(key), now);
      memory.set(KEPT, [...keptKeys(memory), key].join(' '));
    }
    await kernel.sysctl.write(key, value);
  }
}

/** Puts back what stood before us, where nobody has set something else since. */
export async function restoreParameters(
  kernel: Pick<Kernel, 'sysctl'>,
  memory: ParameterMemory,
): Promise<void> {
  for (const key of keptKeys(memory).reverse()) {
    const before = memory.get(memoryKey(key)) ?? '';
    const ours = key.endsWith('.accept_ra') ? '2' : '1';
    if (before !== '' && (await kernel.sysctl.read(key)) === ours) await kernel.sysctl.write(key, before);
    memory.set(memoryKey(key), '');
  }
  memory.set(KEPT, '');
}

const keptKeys = (memory: ParameterMemory): string[] =>
  (memory.get(KEPT) ?? '').split(' ').filter((key) => key !== '');
