/** The tunnel's UDP socket, and what its paths carry. */
import { isIPv4 } from 'node:net';
import { type NativeAddon, systemCall } from '../../native/addon.ts';
import { hostInt, readHostInt32 } from '../../native/byte-order.ts';
import { AF_INET, AF_INET6, encodeSockaddr } from '../../native/sockaddr.ts';

const SOCK_DGRAM = 2;
const SOL_IP = 0;
const SOL_SOCKET = 1;
const SOL_IPV6 = 41;
const SO_SNDBUF = 7;
const SO_RCVBUF = 8;
const SO_SNDBUFFORCE = 32;
const SO_RCVBUFFORCE = 33;
const SO_MARK = 36;
const IP_MTU_DISCOVER = 10;
const IP_PMTUDISC_DO = 2;
const IP_MTU = 14;
const IPV6_MTU_DISCOVER = 23;
const IPV6_MTU = 24;
const IPV6_V6ONLY = 26;
const EAFNOSUPPORT = 97;

/** More than this only turns loss into delay when we cannot keep up. */
const BUFFER_BYTES = 2 * 1024 * 1024;

/** A bound, non-blocking socket for both families, or for IPv4 alone where there is no IPv6. Throws SystemCallError. */
export function openTunnelSocket(addon: NativeAddon, port: number, mark: number): number {
  let fd = addon.socket(AF_INET6, SOCK_DGRAM, 0);
  const dual = fd >= 0;
  if (fd === -EAFNOSUPPORT) fd = addon.socket(AF_INET, SOCK_DGRAM, 0);
  systemCall('socket', fd);
  try {
    const set = (level: number, option: number, value: number, name: string) =>
      systemCall('setsockopt', addon.setsockopt(fd, level, option, hostInt(value)), name);
    if (dual) set(SOL_IPV6, IPV6_V6ONLY, 0, 'IPV6_V6ONLY');
    set(SOL_SOCKET, SO_MARK, mark, 'SO_MARK');
    for (const [force, ordinary] of [
      [SO_RCVBUFFORCE, SO_RCVBUF],
      [SO_SNDBUFFORCE, SO_SNDBUF],
    ] as const)
      if (addon.setsockopt(fd, SOL_SOCKET, force, hostInt(BUFFER_BYTES)) < 0)
        set(SOL_SOCKET, ordinary, BUFFER_BYTES, 'socket buffer');
    systemCall(
      'bind',
      addon.bind(fd, encodeSockaddr(dual ? '::' : '0.0.0.0', port)),
      `UDP port ${port} (another program may hold it; see TUNNEL_PORT)`,
    );
    return fd;
  } catch (error) {
    addon.close(fd);
    throw error;
  }
}

/** The MTU of the path to an address as the kernel knows it now; undefined when there is no way there. */
export function pathMtu(
  addon: NativeAddon,
  to: { readonly address: string; readonly port: number },
  mark: number,
): number | undefined {
  const ipv4 = isIPv4(to.address);
  const fd = addon.socket(ipv4 ? AF_INET : AF_INET6, SOCK_DGRAM, 0);
  if (fd < 0) return undefined;
  try {
    addon.setsockopt(fd, SOL_SOCKET, SO_MARK, hostInt(mark));
    addon.setsockopt(
      fd,
      ipv4 ? SOL_IP : SOL_IPV6,
      ipv4 ? IP_MTU_DISCOVER : IPV6_MTU_DISCOVER,
      hostInt(IP_PMTUDISC_DO),
    );
    if (addon.connect(fd, encodeSockaddr(to.address, to.port)) < 0) return undefined;
    const value = Buffer.alloc(4);
    const got = addon.getsockopt(fd, ipv4 ? SOL_IP : SOL_IPV6, ipv4 ? IP_MTU : IPV6_MTU, value);
    return got < 0 ? undefined : readHostInt32(value, 0);
  } finally {
    addon.close(fd);
  }
}

/** IP and UDP headers outside. */
const outerHeaders = (address: string): number => (isIPv4(address) ? 20 + 8 : 40 + 8);
/** Our header, the tag, and the header of one record (native/tunnel/datagram.h). */
const TUNNEL_HEADERS = 16 + 16 + 4;
/** IPv6 inside needs as much (RFC 8200); where the path carries less the kernel fragments outside. */
const LEAST_MTU = 1280;
/** A jumbo path is used so far. */
const LARGEST_MTU = 9000;

export interface Fit {
  /** Of the TUN device. */
  readonly mtu: number;
  /** UDP payload, bytes. */
  readonly largestDatagram: number;
}

/** What fits on a path: so much that a packet of the device's MTU fills one datagram. */
export function fitOf(address: string, path: number): Fit {
  const mtu = Math.min(LARGEST_MTU, Math.max(LEAST_MTU, path - outerHeaders(address) - TUNNEL_HEADERS));
  return { mtu, largestDatagram: mtu + TUNNEL_HEADERS };
}

/** Before a peer's endpoint is known: what an Ethernet path carries over either family. */
export const UNKNOWN_FIT: Fit = fitOf('::', 1500);
