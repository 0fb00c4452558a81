/**
 * A netlink request socket. The kernel works requests off inside send(2): when it returns, every acknowledgement and
 * the first datagram of a dump are queued, so nothing here polls. One request runs at a time.
 */

import { errnoName, type NativeAddon, SystemCallError, systemCall } from '../../native/addon.ts';
import { hostInt, readHost16, readHost32, readHostInt32, writeHost16 } from '../../native/byte-order.ts';
import { KernelError } from '../contract.ts';
import { attributeName, attributesIn } from './codec.ts';
import { type Datagram, NLM_F_ACK, type SentMessage } from './datagram.ts';
import { refusal, unknownOutcome } from './error-text.ts';
import { align4, MESSAGE_HEADER } from './writer.ts';

export const AF_NETLINK = 16;
const SOCK_RAW = 3;
const SOL_SOCKET = 1;
const SO_SNDBUF = 7;
const SO_RCVBUF = 8;
const SO_SNDBUFFORCE = 32;
const SO_RCVBUFFORCE = 33;
export const SOL_NETLINK = 270;
const NETLINK_CAP_ACK = 10;
const NETLINK_EXT_ACK = 11;
const NETLINK_GET_STRICT_CHK = 12;
export const MSG_DONTWAIT = 0x40;
export const MSG_TRUNC = 0x20;

const NLMSG_ERROR = 2;
const NLMSG_DONE = 3;
const NLM_F_DUMP_INTR = 0x10;
const NLM_F_CAPPED = 0x100;
const NLM_F_ACK_TLVS = 0x200;
const NLMSGERR_ATTR_MSG = 1;
const NLMSGERR_ATTR_OFFS = 2;
const NLMSGERR_ATTR_MISS_TYPE = 5;

const EINTR = 4;
const EAGAIN = 11;
const ENOBUFS = 105;

/** The largest dump datagram is 32 KiB when the reader offers that much (af_netlink.c, NLMSG_GOODSIZE). */
const RECEIVE_BYTES = 256 * 1024;
/** Larger requests leave on the thread pool: nf_tables takes about 5 ms for 64 KiB of elements. */
const ASYNC_BYTES = 64 * 1024;
/** Replies of up to 4,000 messages; the default of 212,992 bytes holds only 256. */
const RECEIVE_BUFFER = 4 * 1024 * 1024;
/** Dump datagrams decoded before the event loop gets its turn (about 3 x 32 KiB, 2 ms). */
const DATAGRAMS_PER_TURN = 3;
/** What the kernel takes of a send buffer for itself (af_netlink.c netlink_sendmsg: len > sk_sndbuf - 32). */
const SEND_OVERHEAD = 32;

/** A message as received. `bytes` is the socket's own buffer: take what you need before returning. */
export interface ReceivedMessage {
  readonly type: number;
  readonly flags: number;
  readonly bytes: Buffer;
  /** Payload, after nlmsghdr. */
  readonly start: number;
  readonly end: number;
}

export interface NetlinkSocket {
  readonly portId: number;
  /**
   * Sends the datagram and waits for its acknowledgements. Throws the first KernelError, `EUNKNOWN` when an
   * acknowledgement that was asked for did not arrive.
   */
  request(datagram: Datagram, onMessage?: (message: ReceivedMessage) => void): Promise<void>;
  /** Sends messages that ask for acknowledgement and answers which were granted (0) or refused (errno); never throws for those. */
  outcomes(datagram: Datagram): Promise<readonly (number | undefined)[]>;
  /** Sends one dump request. Throws KernelError `EINTR` when the kernel says the dump is inconsistent: repeat it. */
  dump(datagram: Datagram, onMessage: (message: ReceivedMessage) => void): Promise<void>;
  /** After the request that runs. */
  close(): Promise<void>;
}

export interface NetlinkSocketOptions {
  readonly protocol: number;
  readonly netnsPath?: string | undefined;
  /** Strict checking of dump requests, which makes the kernel filter (rtnetlink only). */
  readonly strict?: boolean;
}

/** Opens and binds a netlink socket; answers the descriptor and the port id the kernel chose. */
export function openNetlink(
  addon: NativeAddon,
  protocol: number,
  netnsPath: string | undefined,
  type = 0,
): { readonly fd: number; readonly portId: number } {
  const fd =
    netnsPath === undefined
      ? systemCall('socket', addon.socket(AF_NETLINK, SOCK_RAW | type, protocol), 'netlink')
      : systemCall(
          'socket',
          addon.socketInNamespace(netnsPath, AF_NETLINK, SOCK_RAW | type, protocol),
          netnsPath,
        );
  try {
    const address = Buffer.alloc(12);
    writeHost16(address, AF_NETLINK, 0);
    systemCall('bind', addon.bind(fd, address), 'netlink');
    systemCall('getsockname', addon.getsockname(fd, address), 'netlink');
    return { fd, portId: readHost32(address, 4) };
  } catch (error) {
    addon.close(fd);
    throw error;
  }
}

/** Grows the receive buffer past rmem_max where CAP_NET_ADMIN allows, else as far as the limit goes. */
export function growReceiveBuffer(addon: NativeAddon, fd: number, bytes: number): void {
  if (addon.setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, hostInt(bytes)) < 0) {
    addon.setsockopt(fd, SOL_SOCKET, SO_RCVBUF, hostInt(bytes));
  }
}

/** Whether a datagram came from the kernel; any process may send to our port (struct sockaddr_nl: nl_pid at 4). */
export function fromKernel(sender: Buffer): boolean {
  return readHost32(sender, 4) === 0;
}

/** Walks the messages of a received datagram. */
export function* messagesIn(
  bytes: Buffer,
  length: number,
): Generator<ReceivedMessage & { readonly sequence: number; readonly portId: number }> {
  let at = 0;
  while (at + MESSAGE_HEADER <= length) {
    const size = readHost32(bytes, at);
    if (size < MESSAGE_HEADER || at + size > length) return;
    yield {
      type: readHost16(bytes, at + 4),
      flags: readHost16(bytes, at + 6),
      sequence: readHost32(bytes, at + 8),
      portId: readHost32(bytes, at + 12),
      bytes,
      start: at + MESSAGE_HEADER,
      end: at + size,
    };
    at += align4(size);
  }
}

interface Acknowledgement {
  readonly errno: number;
  readonly text: string | undefined;
  readonly offset: number | undefined;
  readonly missing: number | undefined;
}

/** NLMSG_ERROR: s32 -errno, the request's header (and payload unless capped), then extended attributes. */
function readAcknowledgement(message: ReceivedMessage): Acknowledgement {
  const { bytes, start, end, flags } = message;
  const errno = -readHostInt32(bytes, start);
  let text: string | undefined;
  let offset: number | undefined;
  let missing: number | undefined;
  if ((flags & NLM_F_ACK_TLVS) !== 0) {
    const echoed = (flags & NLM_F_CAPPED) !== 0 ? MESSAGE_HEADER : align4(readHost32(bytes, start + 4));
    for (const attribute of attributesIn(bytes, start + 4 + echoed, end)) {
      if (attribute.id === NLMSGERR_ATTR_MSG) {
        text = bytes.toString('utf8', attribute.start, attribute.end).replace(/\0+$/, '');
      } else if (attribute.id === NLMSGERR_ATTR_OFFS) offset = readHost32(bytes, attribute.start);
      else if (attribute.id === NLMSGERR_ATTR_MISS_TYPE) missing = readHost32(bytes, attribute.start);
    }
  }
  return { errno, text, offset, missing };
}

export function openNetlinkSocket(addon: NativeAddon, options: NetlinkSocketOptions): NetlinkSocket {
  const { fd, portId } = openNetlink(addon, options.protocol, options.netnsPath);
  const set = (option: number) => addon.setsockopt(fd, SOL_NETLINK, option, hostInt(1));
  set(NETLINK_EXT_ACK);
  set(NETLINK_CAP_ACK);
  if (options.strict === true) set(NETLINK_GET_STRICT_CHK);
  growReceiveBuffer(addon, fd, RECEIVE_BUFFER);

  const buffer = Buffer.allocUnsafeSlow(RECEIVE_BYTES);
  const sender = Buffer.alloc(12);
  let sequence = 1;
  let tail: Promise<unknown> = Promise.resolve();
  let open = true;

  /** Runs `work` when everything before it has settled. */
  function exclusively<T>(work: () => Promise<T>): Promise<T> {
    const result = tail.then(() => {
      if (!open) throw new KernelError('EBADF', 9, 'netlink', 'the socket is closed');
      return work();
    });
    tail = result.catch(() => undefined);
    return result;
  }

  /** SO_SNDBUF as the kernel counts it. */
  let sendBuffer = 0;
  {
    const value = Buffer.alloc(4);
    if (addon.getsockopt(fd, SOL_SOCKET, SO_SNDBUF, value) >= 0) sendBuffer = readHostInt32(value, 0);
  }

  function growSendBuffer(bytes: number): void {
    if (bytes <= sendBuffer - SEND_OVERHEAD) return;
    const wanted = hostInt(bytes + SEND_OVERHEAD);
    if (addon.setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, wanted) < 0) {
      addon.setsockopt(fd, SOL_SOCKET, SO_SNDBUF, wanted);
    }
    const value = Buffer.alloc(4);
    if (addon.getsockopt(fd, SOL_SOCKET, SO_SNDBUF, value) >= 0) sendBuffer = readHostInt32(value, 0);
  }

  /** Sends all messages as one datagram; answers the first sequence number. */
  async function send(datagram: Datagram): Promise<number> {
    const first = sequence;
    sequence = (sequence + datagram.messages.length) >>> 0;
    const bytes = datagram.numbered(first);
    growSendBuffer(bytes.length);
    const sent = bytes.length > ASYNC_BYTES ? await addon.sendAsync(fd, bytes, 0) : addon.send(fd, bytes, 0);
    if (sent < 0) {
      throw refusal(
        -sent,
        { subject: datagram.messages[0]?.subject ?? 'netlink', path: undefined },
        sendFailure(-sent),
      );
    }
    return first;
  }

  /** One datagram from the kernel: its length, or -errno (EAGAIN: nothing queued). */
  function receive(): number {
    for (;;) {
      const length = addon.recv(fd, buffer, MSG_DONTWAIT | MSG_TRUNC, sender);
      if (length < 0 || fromKernel(sender)) return length;
    }
  }

  /** Reads until nothing is queued; true when replies were lost. */
  function drain(onMessage: (message: ReceivedMessage & { readonly sequence: number }) => void): boolean {
    let lost = false;
    for (;;) {
      const length = receive();
      if (length === -EAGAIN) return lost;
      if (length === -ENOBUFS) {
        lost = true;
        continue;
      }
      if (length < 0) throw new SystemCallError('recv', -length, 'netlink');
      // A truncated datagram is a lost one; what fits is still read.
      if (length > buffer.length) lost = true;
      for (const message of messagesIn(buffer, Math.min(length, buffer.length))) onMessage(message);
    }
  }

  function errorOf(datagram: Datagram, sent: SentMessage, ack: Acknowledgement): KernelError {
    const place = datagram.explain(sent, ack.offset);
    const missing =
      ack.missing === undefined || sent.schema === undefined
        ? undefined
        : `${attributeName(sent.schema, ack.missing)} is missing`;
    return refusal(ack.errno, place, ack.text ?? missing);
  }

  /** Sends, drains, and hands each acknowledgement to `onAck` with its message. */
  async function exchange(
    datagram: Datagram,
    onAck: (index: number, sent: SentMessage, ack: Acknowledgement) => void,
    onMessage?: (message: ReceivedMessage) => void,
  ): Promise<void> {
    const first = await send(datagram);
    drain((message) => {
      const index = (message.sequence - first) >>> 0;
      const sent = datagram.messages[index];
      // An answer to something older.
      if (sent === undefined) return;
      if (message.type === NLMSG_ERROR) onAck(index, sent, readAcknowledgement(message));
      else if (message.type !== NLMSG_DONE) onMessage?.(message);
    });
  }

  return {
    portId,

    request: (datagram, onMessage) =>
      exclusively(async () => {
        const waiting = new Set<number>();
        datagram.messages.forEach((message, index) => {
          if ((message.flags & NLM_F_ACK) !== 0) waiting.add(index);
        });
        let failure: KernelError | undefined;
        await exchange(
          datagram,
          (index, sent, ack) => {
            waiting.delete(index);
            // One cause makes many errors (all that refers to the refused object): the first is the cause.
            if (ack.errno !== 0 && failure === undefined) failure = errorOf(datagram, sent, ack);
          },
          onMessage,
        );
        if (failure !== undefined) throw failure;
        if (waiting.size > 0) throw unknownOutcome(datagram.messages[0]?.subject ?? 'netlink');
      }),

    outcomes: (datagram) =>
      exclusively(async () => {
        const results: (number | undefined)[] = datagram.messages.map(() => undefined);
        await exchange(datagram, (index, _sent, ack) => {
          results[index] ??= ack.errno;
        });
        return results;
      }),

    dump: (datagram, onMessage) =>
      exclusively(async () => {
        const first = await send(datagram);
        const subject = datagram.messages[0]?.subject ?? 'dump';
        let interrupted = false;
        for (let datagrams = 1; ; datagrams += 1) {
          const length = receive();
          if (length < 0)
            throw refusal(-length, { subject, path: undefined }, `reading: ${errnoName(-length)}`);
          if (length > buffer.length) throw unknownOutcome(subject);
          for (const message of messagesIn(buffer, length)) {
            if (message.sequence !== first) continue;
            if ((message.flags & NLM_F_DUMP_INTR) !== 0) interrupted = true;
            if (message.type === NLMSG_ERROR || message.type === NLMSG_DONE) {
              const errno =
                message.end - message.start >= 4 ? -readHostInt32(message.bytes, message.start) : 0;
              if (errno !== 0) {
                const sent = datagram.messages[0];
                const ack = message.type === NLMSG_ERROR ? readAcknowledgement(message) : undefined;
                if (sent !== undefined && ack !== undefined) throw errorOf(datagram, sent, ack);
                throw refusal(errno, { subject, path: undefined });
              }
              if (interrupted) {
                throw refusal(EINTR, { subject, path: undefined }, 'something changed while it was read');
              }
              return;
            }
            onMessage(message);
          }
          if (datagrams % DATAGRAMS_PER_TURN === 0) await new Promise((resolve) => setImmediate(resolve));
        }
      }),

    close: async () => {
      await tail.catch(() => undefined);
      if (!open) return;
      open = false;
      addon.close(fd);
    },
  };
}

function sendFailure(errno: number): string | undefined {
  return errno === ENOBUFS ? 'the kernel has no memory for a transaction of this size' : undefined;
}
