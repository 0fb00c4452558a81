/** Multicast: who else changes what Arctic looks after. */
import { type NativeAddon, READABLE, systemCall } from '../native/addon.ts';
import { hostInt, writeHost16, writeHost32 } from '../native/byte-order.ts';
import type { KernelNotice } from './contract.ts';
import { decodeAttributes } from './netlink/codec.ts';
import {
  fromKernel,
  growReceiveBuffer,
  MSG_DONTWAIT,
  MSG_TRUNC,
  messagesIn,
  openNetlink,
  SOL_NETLINK,
} from './netlink/socket.ts';
import { generationSchema, NETLINK_NETFILTER, NFNLGRP_NFTABLES, NFT_MSG } from './nft/schema.ts';
import { messageType } from './nft/transaction.ts';
import { NETLINK_ROUTE, RTM, RTNLGRP } from './rt/schema.ts';

const SOCK_NONBLOCK = 0o4000;
const NETLINK_ADD_MEMBERSHIP = 1;
const NETLINK_DROP_MEMBERSHIP = 2;
const ENOBUFS = 105;
const RECEIVE_BYTES = 64 * 1024;
const RECEIVE_BUFFER = 4 * 1024 * 1024;
/** struct nfgenmsg */
const GENERIC_HEADER = 4;

type Subsystem = KernelNotice['subsystem'];

export interface Watch {
  /** Leaves and joins the nftables group, around a bulk commit of our own. */
  silence(): void;
  listen(): void;
  stop(): void;
}

export interface WatchOptions {
  readonly addon: NativeAddon;
  readonly netnsPath: string | undefined;
  /** Port ids of our request sockets: what they did is not news. */
  readonly ownPorts: { readonly nftables: number; readonly route: number };
  readonly onNotice: (notice: KernelNotice) => void;
}

/** Notification types of rtnetlink, with what they are about. */
const ROUTE_MESSAGES: ReadonlyMap<number, Subsystem> = new Map([
  [RTM.newLink, 'link'],
  [RTM.deleteLink, 'link'],
  [RTM.newAddress, 'address'],
  [RTM.deleteAddress, 'address'],
  [RTM.newRoute, 'route'],
  [RTM.deleteRoute, 'route'],
  [RTM.newRule, 'rule'],
  [RTM.deleteRule, 'rule'],
  [RTM.newNetconf, 'sysctl'],
]);

/**
 * Classic BPF: let only NFT_MSG_NEWGEN through, one message for each transaction, so that a transaction of any size
 * by anybody cannot overrun the socket. The filter reads the datagram from nlmsghdr on: type is at byte 4.
 */
export function newGenerationFilter(): Buffer {
  // BPF_LD|BPF_H|BPF_ABS reads big-endian, nlmsg_type is host-endian.
  const type = Buffer.alloc(2);
  writeHost16(type, messageType(NFT_MSG.newGeneration), 0);
  const program: readonly (readonly [code: number, jumpTrue: number, jumpFalse: number, k: number])[] = [
    [0x28, 0, 0, 4],
    [0x15, 0, 1, type.readUInt16BE(0)],
    [0x06, 0, 0, 0xffffffff],
    [0x06, 0, 0, 0],
  ];
  const bytes = Buffer.alloc(program.length * 8);
  program.forEach(([code, jumpTrue, jumpFalse, k], index) => {
    writeHost16(bytes, code, index * 8);
    bytes.set([jumpTrue, jumpFalse], index * 8 + 2);
    writeHost32(bytes, k, index * 8 + 4);
  });
  return bytes;
}

export function startWatch({ addon, netnsPath, ownPorts, onNotice }: WatchOptions): Watch {
  const buffer = Buffer.allocUnsafeSlow(RECEIVE_BYTES);
  const sender = Buffer.alloc(12);
  const stops: (() => void)[] = [];

  function overrun(subsystems: readonly Subsystem[]): void {
    for (const subsystem of subsystems) {
      onNotice({ subsystem, own: false, pid: undefined, program: undefined, overrun: true });
    }
  }

  function join(fd: number, group: number, option = NETLINK_ADD_MEMBERSHIP): void {
    systemCall(
      'setsockopt',
      addon.setsockopt(fd, SOL_NETLINK, option, hostInt(group)),
      `netlink group ${group}`,
    );
  }

  function listenOn(
    protocol: number,
    subsystems: readonly Subsystem[],
    prepare: (fd: number) => void,
    read: (bytes: Buffer, length: number) => void,
  ): number {
    const { fd } = openNetlink(addon, protocol, netnsPath, SOCK_NONBLOCK);
    let slot: number;
    try {
      growReceiveBuffer(addon, fd, RECEIVE_BUFFER);
      prepare(fd);
      slot = systemCall('poll', addon.pollStart(fd, READABLE, onReady), 'netlink');
    } catch (error) {
      addon.close(fd);
      throw error;
    }
    let open = true;
    stops.push(() => {
      open = false;
      addon.pollStop(slot);
      addon.close(fd);
    });

    function onReady(status: number): void {
      // The kernel had no room for a notice (ENOBUFS); the add-on polls on.
      if (status < 0) overrun(subsystems);
      // A listener may stop the watch while we read.
      while (open) {
        const length = addon.recv(fd, buffer, MSG_DONTWAIT | MSG_TRUNC, sender);
        if (length === -ENOBUFS) overrun(subsystems);
        else if (length < 0) return;
        else if (!fromKernel(sender)) continue;
        else if (length > buffer.length) overrun(subsystems);
        else read(buffer, length);
      }
    }
    return fd;
  }

  const nftables = listenOn(
    NETLINK_NETFILTER,
    ['nftables'],
    (fd) => {
      systemCall('setsockopt', addon.attachFilter(fd, newGenerationFilter()), 'netlink filter');
      join(fd, NFNLGRP_NFTABLES);
    },
    (bytes, length) => {
      for (const message of messagesIn(bytes, length)) {
        if (message.type !== messageType(NFT_MSG.newGeneration) || message.portId === ownPorts.nftables)
          continue;
        const { pid, program } = decodeAttributes(
          generationSchema,
          bytes,
          message.start + GENERIC_HEADER,
          message.end,
        );
        onNotice({ subsystem: 'nftables', own: false, pid, program, overrun: false });
      }
    },
  );

  try {
    listenOn(
      NETLINK_ROUTE,
      ['link', 'address', 'route', 'rule'],
      (fd) => {
        for (const group of Object.values(RTNLGRP)) join(fd, group);
      },
      (bytes, length) => {
        for (const message of messagesIn(bytes, length)) {
          const subsystem = ROUTE_MESSAGES.get(message.type);
          if (subsystem === undefined) continue;
          // Link notices carry port 0 whoever did it.
          if (message.portId === ownPorts.route) continue;
          onNotice({ subsystem, own: false, pid: undefined, program: undefined, overrun: false });
        }
      },
    );
  } catch (error) {
    for (const stop of stops) stop();
    throw error;
  }

  let stopped = false;
  return {
    silence: () => {
      if (!stopped) join(nftables, NFNLGRP_NFTABLES, NETLINK_DROP_MEMBERSHIP);
    },
    listen: () => {
      if (!stopped) join(nftables, NFNLGRP_NFTABLES);
    },
    stop: () => {
      if (stopped) return;
      stopped = true;
      for (const stop of stops) stop();
    },
  };
}
