import type { Kernel } from '../../kernel/contract.ts';
import type { Difference } from '../contract.ts';

/** Kernel parameters that capture depends on, and why. */
export const SYSCTLS: readonly { readonly key: string; readonly value: string; readonly why: string }[] = [
  {
    key: 'net.ipv4.tcp_fwmark_accept',
    value: '1',
    why: 'an accepted connection tells its service by its mark',
  },
  {
    key: 'net.ipv4.conf.all.src_valid_mark',
    value: '0',
    why: 'with it, reverse path filtering looks marked packets up in the local-delivery table and drops them',
  },
];

/** Where the values found before ours are kept, so that an uninstall can put them back. */
export interface SysctlMemory {
  get(key: string): string | undefined;
  set(key: string, value: string): void;
}
const memoryKey = (key: string): string => `sysctl.before.${key}`;

export type ObservedSysctls = ReadonlyMap<string, string | undefined>;

export async function observeSysctls(kernel: Pick<Kernel, 'sysctl'>): Promise<ObservedSysctls> {
  const values = new Map<string, string | undefined>();
  for (const { key } of SYSCTLS) values.set(key, await kernel.sysctl.read(key));
  return values;
}

/** Pure. A parameter this kernel does not have is not missed here: the feature probe says what its absence means. */
export const planSysctls = (wanted: boolean, observed: ObservedSysctls): readonly Difference[] =>
  wanted
    ? SYSCTLS.filter(({ key, value }) => {
        const now = observed.get(key);
        return now !== undefined && now !== value;
      }).map(({ key, value }) => ({
        item: `sysctl ${key}`,
        desired: value,
        observed: observed.get(key) ?? null,
      }))
    : [];

export async function applySysctls(
  kernel: Pick<Kernel, 'sysctl'>,
  differences: readonly Difference[],
  memory: SysctlMemory,
): Promise<void> {
  for (const { key, value } of SYSCTLS) {
    const difference = differences.find((one) => one.item === `sysctl ${key}`);
    if (difference === undefined) continue;
    if (memory.get(memoryKey(key)) === undefined && difference.observed !== null)
      memory.set(memoryKey(key), difference.observed);
    await kernel.sysctl.write(key, value);
  }
}

/** Puts back what stood before us, where nobody has set something else since. */
export async function restoreSysctls(kernel: Pick<Kernel, 'sysctl'>, memory: SysctlMemory): Promise<void> {
  for (const { key, value } of SYSCTLS) {
    const before = memory.get(memoryKey(key));
    if (before === undefined || before === '') continue;
    if ((await kernel.sysctl.read(key)) === value) await kernel.sysctl.write(key, before);
    memory.set(memoryKey(key), '');
  }
}
