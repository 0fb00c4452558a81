/** What passes on a wire between namespaces, taken down and played back. */
import { isIPv6 } from 'node:net';
import { loadAddon, READABLE, systemCall } from '../../../src/native/addon.ts';
import { hostInt } from '../../../src/native/byte-order.ts';
import { encodeSockaddr } from '../../../src/native/sockaddr.ts';
import type { Netns } from '../netns.ts';

const addon = loadAddon();
const AF_INET = 2;
const AF_INET6 = 10;
const SOCK_DGRAM = 2;
const SOCK_RAW = 3;
const SOCK_NONBLOCK = 0o4000;
const IPPROTO_UDP = 17;
const UDP_HEADER = 8;
const SOL_IP = 0;
const IP_TOS = 1;
const SOL_IPV6 = 41;
const IPV6_TCLASS = 67;
const SOL_UDP = 17;
/** linux/udp.h */
const UDP_SEGMENT = 103;

export interface Captured {
  /** DSCP and ECN of the IP header. */
  readonly tos: number;
  readonly toPort: number;
  readonly payload: Buffer;
}

/** Payloads of the UDP datagrams over IPv4 that reach the namespace. */
export function captureUdp(netns: Netns): { stop(): Promise<readonly Buffer[]> } {
  const capture = captureIpv4Udp(netns);
  return { stop: async () => (await capture.stop()).map(({ payload }) => payload) };
}

/** UDP datagrams over IPv4 that reach the namespace. */
export function captureIpv4Udp(netns: Netns): { stop(): Promise<readonly Captured[]> } {
  const fd = systemCall(
    'socket',
    addon.socketInNamespace(netns.path, AF_INET, SOCK_RAW | SOCK_NONBLOCK, IPPROTO_UDP),
  );
  const captured: Captured[] = [];
  const room = Buffer.alloc(70_000);
  const take = (): void => {
    for (;;) {
      const got = addon.recv(fd, room, 0);
      if (got <= 0) return;
      const header = ((room[0] ?? 0) & 15) * 4;
      captured.push({
        tos: room[1] ?? 0,
        toPort: room.readUInt16BE(header + 2),
        payload: Buffer.from(room.subarray(header + UDP_HEADER, got)),
      });
    }
  };
  const slot = addon.pollStart(fd, READABLE, take);
  return {
    stop: async () => {
      take();
      addon.pollStop(slot);
      addon.close(fd);
      return captured;
    },
  };
}

/** Sends each payload once from a port of the kernel's choice, under a TOS (IPv6: traffic class) if given; under several by turns. */
export async function sendUdp(
  netns: Netns,
  address: string,
  port: number,
  payloads: readonly Buffer[],
  tos: number | readonly number[] = 0,
): Promise<void> {
  const fd = openUdp(netns, address, port);
  const marks = typeof tos === 'number' ? [tos] : tos;
  for (const [index, payload] of payloads.entries()) {
    const mark = marks[index % marks.length] ?? 0;
    const [level, option] = isIPv6(address) ? [SOL_IPV6, IPV6_TCLASS] : [SOL_IP, IP_TOS];
    systemCall('setsockopt', addon.setsockopt(fd, level, option, hostInt(mark)));
    systemCall('send', addon.send(fd, payload, 0));
  }
  addon.close(fd);
}

/** Sends datagrams of one length as one frame, which reaches the receiver's socket whole (UDP_GRO). */
export function sendUdpTogether(
  netns: Netns,
  address: string,
  port: number,
  payloads: readonly Buffer[],
): void {
  const fd = openUdp(netns, address, port);
  systemCall('setsockopt', addon.setsockopt(fd, SOL_UDP, UDP_SEGMENT, hostInt(payloads[0]?.length ?? 0)));
  systemCall('send', addon.send(fd, Buffer.concat(payloads), 0));
  addon.close(fd);
}

function openUdp(netns: Netns, address: string, port: number): number {
  const fd = systemCall(
    'socket',
    addon.socketInNamespace(netns.path, isIPv6(address) ? AF_INET6 : AF_INET, SOCK_DGRAM, 0),
  );
  systemCall('connect', addon.connect(fd, encodeSockaddr(address, port)));
  return fd;
}
