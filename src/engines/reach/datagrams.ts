/** A marked UDP socket for a few datagrams, outside of Node's own, which cannot be marked. */
import { isIPv4 } from 'node:net';
import { type NativeAddon, READABLE, systemCall } from '../../native/addon.ts';
import { hostInt } from '../../native/byte-order.ts';
import { AF_INET, AF_INET6, encodeSockaddr } from '../../native/sockaddr.ts';
import type { Target } from './carrier.ts';

const SOCK_DGRAM = 2;
const SOCK_NONBLOCK = 0o4000;
const SOL_SOCKET = 1;
const SO_MARK = 36;
const MSG_DONTWAIT = 0x40;
/** More than any datagram that is looked for has. */
const ROOM = 256;
/** Datagrams taken at a time: a flood must not hold the event loop. */
const MOST_AT_ONCE = 32;

export interface Datagrams {
  /** A failure is a loss. */
  send(bytes: Uint8Array): void;
  close(): void;
}

/** Takes what comes off a socket, which it owns from here on. Throws SystemCallError; then the socket is closed. */
export function follow(addon: NativeAddon, fd: number, heard: (bytes: Buffer) => void): Datagrams {
  const room = Buffer.alloc(ROOM);
  let open = true;
  let slot: number;
  try {
    slot = systemCall(
      'pollStart',
      addon.pollStart(fd, READABLE, () => {
        for (let taken = 0; open && taken < MOST_AT_ONCE; taken += 1) {
          const length = addon.recv(fd, room, MSG_DONTWAIT);
          // A refusal (ICMP) is an error once and says nothing that the silence does not.
          if (length < 0) return;
          heard(Buffer.from(room.subarray(0, length)));
        }
      }),
    );
  } catch (error) {
    addon.close(fd);
    throw error;
  }
  return {
    send(bytes) {
      if (open) addon.send(fd, bytes, MSG_DONTWAIT);
    },
    close() {
      if (!open) return;
      open = false;
      addon.pollStop(slot);
      addon.close(fd);
    },
  };
}

/** Speaks with one address only. Throws SystemCallError when there is no way there. */
export function speakWith(
  addon: NativeAddon,
  target: Target,
  mark: number,
  heard: (bytes: Buffer) => void,
): Datagrams {
  const domain = isIPv4(target.address) ? AF_INET : AF_INET6;
  const fd = systemCall('socket', addon.socket(domain, SOCK_DGRAM | SOCK_NONBLOCK, 0));
  try {
    systemCall('setsockopt', addon.setsockopt(fd, SOL_SOCKET, SO_MARK, hostInt(mark)), 'SO_MARK');
    systemCall('connect', addon.connect(fd, encodeSockaddr(target.address, target.port)), target.address);
  } catch (error) {
    addon.close(fd);
    throw error;
  }
  return follow(addon, fd, heard);
}
