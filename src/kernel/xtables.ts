/** Rules of the old xtables (iptables-legacy), which run beside nf_tables at the same hooks and belong to nobody's transaction. */
import { closeSync, constants, openSync, readFileSync } from 'node:fs';
import type { NativeAddon } from '../native/addon.ts';

/** One name a line, of the tables that were used since boot in this network namespace (net/netfilter/x_tables.c). */
const NAMES: readonly (readonly [family: string, path: string])[] = [
  ['ip', '/proc/thread-self/net/ip_tables_names'],
  ['ip6', '/proc/thread-self/net/ip6_tables_names'],
];

/** `ip mangle`, `ip6 filter`...; none where the kernel has no xtables or nobody has used them. */
export function legacyTables(addon: NativeAddon, netnsPath: string | undefined): readonly string[] {
  return NAMES.flatMap(([family, path]) =>
    readNames(addon, netnsPath, path)
      .split('\n')
      .filter((name) => name !== '')
      .map((name) => `${family} ${name}`),
  );
}

function readNames(addon: NativeAddon, netnsPath: string | undefined, path: string): string {
  let fd: number;
  try {
    fd =
      netnsPath === undefined
        ? openSync(path, constants.O_RDONLY)
        : addon.openInNamespace(netnsPath, path, constants.O_RDONLY);
  } catch {
    return '';
  }
  if (fd < 0) return '';
  try {
    return readFileSync(fd, 'utf8');
  } catch {
    return '';
  } finally {
    closeSync(fd);
  }
}
