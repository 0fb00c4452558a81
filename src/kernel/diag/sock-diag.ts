/** TCP sockets of this host over sock_diag (linux/sock_diag.h, linux/inet_diag.h): found by their mark, and destroyed. */
import type { NativeAddon } from '../../native/addon.ts';
import { readHost32, writeHost32 } from '../../native/byte-order.ts';
import { type FlowFilter, type Flows, KernelError } from '../contract.ts';
import { attributesIn } from '../netlink/codec.ts';
import { Datagram, NLM_F_ACK, NLM_F_DUMP } from '../netlink/datagram.ts';
import { openNetlinkSocket, type ReceivedMessage } from '../netlink/socket.ts';
import { AF_INET, AF_INET6, parseCidr } from '../rt/cidr.ts';

const NETLINK_SOCK_DIAG = 4;
const SOCK_DIAG_BY_FAMILY = 20;
const SOCK_DESTROY = 21;
const IPPROTO_TCP = 6;
const INET_DIAG_MARK = 15;
/** Every state but TIME_WAIT, CLOSE, LISTEN and NEW_SYN_RECV (bits by number, net/tcp_states.h). */
const STATES = 0xfff & ~(1 << 6) & ~(1 << 7) & ~(1 << 10);
/** struct inet_diag_req_v2: family, protocol, ext, pad, states, then struct inet_diag_sockid. */
const REQUEST = 56;
const REQUEST_ID = 8;
/** struct inet_diag_msg: family, state, timer, retrans, inet_diag_sockid, and 20 bytes of counters. */
const MESSAGE = 72;
const MESSAGE_ID = 4;
const ID = 48;
/** In inet_diag_sockid: ports (2 x be16), source and destination (16 bytes each), device, cookie. */
const ID_LOCAL = 4;
const ID_REMOTE = 20;
const MAPPED = Buffer.from('00000000000000000000ffff', 'hex');

interface Found {
  readonly family: number;
  readonly id: Buffer;
}

export interface SockDiag extends Flows {
  /** Whether the kernel can destroy sockets, asked about one that does not exist. */
  probe(): Promise<boolean>;
  close(): Promise<void>;
}

/** Destroying sockets needs CONFIG_INET_DIAG_DESTROY; without it `reset` fails with EOPNOTSUPP. */
export function openSockDiag(addon: NativeAddon, netnsPath: string | undefined): SockDiag {
  const socket = openNetlinkSocket(addon, { protocol: NETLINK_SOCK_DIAG, netnsPath });

  async function find(family: number, filter: Matcher): Promise<readonly Found[]> {
    const found: Found[] = [];
    const header = requestOf(family);
    const datagram = new Datagram(256);
    const head = { type: SOCK_DIAG_BY_FAMILY, flags: NLM_F_DUMP, header, subject: 'list TCP sockets' };
    datagram.add(head, {}, {});
    await socket.dump(datagram, (message) => {
      if (message.type === SOCK_DIAG_BY_FAMILY && filter(message))
        found.push({ family, id: copyOf(message.bytes, message.start + MESSAGE_ID, ID) });
    });
    return found;
  }

  async function destroy(family: number, id: Buffer): Promise<void> {
    const header = requestOf(family);
    id.copy(header, REQUEST_ID);
    const datagram = new Datagram(256);
    datagram.add({ type: SOCK_DESTROY, flags: NLM_F_ACK, header, subject: 'reset a TCP flow' }, {}, {});
    await socket.request(datagram);
  }

  return {
    async reset(filter) {
      const matches = matcherOf(filter);
      let count = 0;
      for (const family of [AF_INET, AF_INET6])
        for (const { id } of await find(family, matches)) {
          try {
            await destroy(family, id);
            count += 1;
          } catch (error) {
            // It ended by itself.
            if (!(error instanceof KernelError) || error.code !== 'ENOENT') throw error;
          }
        }
      return count;
    },
    async probe() {
      try {
        await destroy(AF_INET, Buffer.alloc(ID, 0xff));
      } catch (error) {
        return error instanceof KernelError && error.code === 'ENOENT';
      }
      return true;
    },
    close: () => socket.close(),
  };
}

function requestOf(family: number): Buffer {
  const header = Buffer.alloc(REQUEST);
  header.writeUInt8(family, 0);
  header.writeUInt8(IPPROTO_TCP, 1);
  writeHost32(header, STATES, 4);
  return header;
}

type Matcher = (message: ReceivedMessage) => boolean;

function matcherOf({ mark, mask, between }: FlowFilter): Matcher {
  const pairs = between?.map(({ source, destination }) => ({
    source: source === null ? undefined : parseCidr(source),
    destination: destination === null ? undefined : parseCidr(destination),
  }));
  return ({ bytes, start, end }) => {
    if (end - start < MESSAGE || (markOf(bytes, start + MESSAGE, end) & mask) >>> 0 !== mark >>> 0)
      return false;
    if (pairs === undefined) return true;
    const local = addressAt(bytes, start, ID_LOCAL);
    const remote = addressAt(bytes, start, ID_REMOTE);
    return pairs.some(
      ({ source, destination }) =>
        (source === undefined || contains(source, remote)) &&
        (destination === undefined || contains(destination, local)),
    );
  };
}

function markOf(bytes: Buffer, from: number, to: number): number {
  for (const { id, start } of attributesIn(bytes, from, to))
    if (id === INET_DIAG_MARK) return readHost32(bytes, start);
  return 0;
}

/** 4 bytes also for an IPv4 address on an IPv6 socket. */
function addressAt(bytes: Buffer, message: number, offset: number): Buffer {
  const at = message + MESSAGE_ID + offset;
  if (bytes.readUInt8(message) === AF_INET) return bytes.subarray(at, at + 4);
  const address = bytes.subarray(at, at + 16);
  return address.subarray(0, 12).equals(MAPPED) ? address.subarray(12) : address;
}

function contains(prefix: ReturnType<typeof parseCidr>, address: Buffer): boolean {
  if (prefix.bytes.length !== address.length) return false;
  for (let bit = 0; bit < prefix.prefixLength; bit += 8) {
    const left = prefix.prefixLength - bit;
    const mask = left >= 8 ? 0xff : (0xff << (8 - left)) & 0xff;
    if ((((prefix.bytes[bit >> 3] ?? 0) ^ (address[bit >> 3] ?? 0)) & mask) !== 0) return false;
  }
  return true;
}

function copyOf(bytes: Buffer, at: number, length: number): Buffer {
  return Buffer.from(bytes.subarray(at, at + length));
}
