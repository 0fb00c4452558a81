/** The engine's listening sockets, bound for IPv4 and, where the host has it, IPv6; whoever takes them listens. */
import { readFile, writeFile } from 'node:fs/promises';
import { type NativeAddon, SystemCallError, systemCall } from '../../native/addon.ts';
import { decodeSockaddr, SOCKADDR_LENGTH } from '../../native/sockaddr.ts';
import { openListener } from '../../native/transparent.ts';
import type { CarrierTuning } from './carrier-tuning.ts';
import { prepareLocal } from './local-sockets.ts';

export interface BoundListener {
  readonly fd: number;
  readonly address: string;
  readonly port: number;
}

export const BACKLOG = 16_384;
/** Without it accepted sockets carry their listener's mark, not the packet's (Documentation/networking/ip-sysctl). */
const FWMARK_ACCEPT = '/proc/sys/net/ipv4/tcp_fwmark_accept';

/** For redirected connections. Throws SystemCallError. */
export async function bindCaptured(
  addon: NativeAddon,
  port: number,
  transparent: boolean,
): Promise<readonly BoundListener[]> {
  if (transparent && (await readFile(FWMARK_ACCEPT, 'ascii')).trim() !== '1') {
    await writeFile(FWMARK_ACCEPT, '1\n');
  }
  return bindBoth(addon, port, (address, chosen) => {
    const fd = openListener(addon, { address, port: chosen, transparent });
    prepareLocal(addon, fd);
    return fd;
  });
}

/** For peers' carriers; buffers are set before listen, because they decide the window scale. Throws SystemCallError. */
export function bindCarriers(
  addon: NativeAddon,
  port: number,
  carrier: CarrierTuning,
): readonly BoundListener[] {
  return bindBoth(addon, port, (address, chosen) =>
    carrier.open((tcp) => openListener(addon, { address, port: chosen, ...tcp })),
  );
}

function bindBoth(
  addon: NativeAddon,
  port: number,
  open: (address: string, port: number) => number,
): readonly BoundListener[] {
  const bound: BoundListener[] = [];
  try {
    for (const address of ['0.0.0.0', '::']) {
      let fd: number;
      try {
        fd = open(address, bound[0]?.port ?? port);
      } catch (error) {
        if (address === '::' && isWithoutIpv6(error)) break;
        throw error;
      }
      bound.push({ fd, address, port: portOf(addon, fd) });
    }
  } catch (error) {
    for (const { fd } of bound) addon.close(fd);
    throw error;
  }
  return bound;
}

function portOf(addon: NativeAddon, fd: number): number {
  const sockaddr = Buffer.alloc(SOCKADDR_LENGTH);
  systemCall('getsockname', addon.getsockname(fd, sockaddr));
  return decodeSockaddr(sockaddr)?.port ?? 0;
}

function isWithoutIpv6(error: unknown): boolean {
  return (
    error instanceof SystemCallError && (error.code === 'EAFNOSUPPORT' || error.code === 'EADDRNOTAVAIL')
  );
}
