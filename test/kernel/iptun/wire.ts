/** What passes on a wire between namespaces, taken down and played back. */
import { loadAddon, READABLE, systemCall } from '../../../src/native/addon.ts';
import { hostInt } from '../../../src/native/byte-order.ts';
import { encodeSockaddr } from '../../../src/native/sockaddr.ts';
import type { Netns } from '../netns.ts';

const addon = loadAddon();
const AF_INET = 2;
const SOCK_DGRAM = 2;
const SOCK_RAW = 3;
const SOCK_NONBLOCK = 0o4000;
const IPPROTO_UDP = 17;
const UDP_HEADER = 8;
const SOL_IP = 0;
const IP_TOS = 1;

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

/** Sends each payload once from a port of the kernel's choice, under a TOS if given. */
export async function sendUdp(
  netns: Netns,
  address: string,
  port: number,
  payloads: readonly Buffer[],
  tos = 0,
): Promise<void> {
  const fd = systemCall('socket', addon.socketInNamespace(netns.path, AF_INET, SOCK_DGRAM, 0));
  systemCall('setsockopt', addon.setsockopt(fd, SOL_IP, IP_TOS, hostInt(tos)));
  systemCall('connect', addon.connect(fd, encodeSockaddr(address, port)));
  for (const payload of payloads) systemCall('send', addon.send(fd, payload, 0));
  addon.close(fd);
}
