/** ARP as IPv4 duplicate address detection speaks it (RFC 826, RFC 5227): frames, and which of them contest an address. */
import { hostInt, writeHost16, writeHost32 } from '../../native/byte-order.ts';
import { addressBytes } from '../../native/sockaddr.ts';

export const AF_PACKET = 17;
export const ETH_P_ARP = 0x0806;
const ETHERNET_HEADER = 14;
/** Ethernet header and an ARP packet for Ethernet and IPv4. */
const FRAME_BYTES = ETHERNET_HEADER + 28;
/** Offsets in the frame: sender's hardware and protocol address, target's protocol address. */
const SENDER_MAC = 22;
const SENDER_IP = 28;
const TARGET_IP = 38;
const MAC_BYTES = 6;

const macBytes = (mac: string): Buffer => Buffer.from(mac.replaceAll(':', ''), 'hex');

/** An ARP probe: a request for the address that claims nothing, with a sender address of zero (RFC 5227 section 2.1.1). */
export function arpProbe(mac: string, address: string): Buffer {
  const frame = Buffer.alloc(FRAME_BYTES);
  frame.fill(0xff, 0, MAC_BYTES);
  macBytes(mac).copy(frame, MAC_BYTES);
  frame.writeUInt16BE(ETH_P_ARP, 12);
  // Ethernet, IPv4, their address lengths, request.
  frame.set([0, 1, 8, 0, 6, 4, 0, 1], ETHERNET_HEADER);
  macBytes(mac).copy(frame, SENDER_MAC);
  frame.set(addressBytes(address), TARGET_IP);
  return frame;
}

/**
 * The hardware address of another host that uses the address, or probes for it at the same time (RFC 5227 sections 2.1.1
 * and 2.4); undefined for a frame that does not contest it.
 */
export function contender(frame: Buffer, mac: string, address: string): string | undefined {
  if (frame.length < FRAME_BYTES || frame.readUInt16BE(12) !== ETH_P_ARP) return undefined;
  const sender = frame.subarray(SENDER_MAC, SENDER_MAC + MAC_BYTES);
  if (sender.equals(macBytes(mac))) return undefined;
  const claimed = addressBytes(address);
  const holds = frame.subarray(SENDER_IP, SENDER_IP + 4).equals(claimed);
  const probes =
    frame.readUInt32BE(SENDER_IP) === 0 && frame.subarray(TARGET_IP, TARGET_IP + 4).equals(claimed);
  return holds || probes ? sender.toString('hex').replace(/..(?!$)/g, '$&:') : undefined;
}

/** Classic BPF that lets through what `contender` may be about: a busy network's other ARP wakes nobody. */
export function contenderFilter(address: string): Buffer {
  const ip = Buffer.from(addressBytes(address)).readUInt32BE(0);
  const [LOAD_WORD, JUMP_IF_EQUAL, RETURN] = [0x20, 0x15, 0x06];
  const program: readonly (readonly [code: number, jumpTrue: number, jumpFalse: number, k: number])[] = [
    [LOAD_WORD, 0, 0, SENDER_IP],
    [JUMP_IF_EQUAL, 3, 0, ip],
    [JUMP_IF_EQUAL, 0, 3, 0],
    [LOAD_WORD, 0, 0, TARGET_IP],
    [JUMP_IF_EQUAL, 0, 1, ip],
    [RETURN, 0, 0, 0xffff_ffff],
    [RETURN, 0, 0, 0],
  ];
  return Buffer.concat(
    program.map(([code, jumpTrue, jumpFalse, k]) => {
      const instruction = Buffer.alloc(8);
      writeHost16(instruction, code, 0);
      instruction.set([jumpTrue, jumpFalse], 2);
      writeHost32(instruction, k, 4);
      return instruction;
    }),
  );
}

/** struct sockaddr_ll: family, protocol (big-endian), interface index. */
export function packetAddress(linkIndex: number): Buffer {
  const address = Buffer.alloc(20);
  writeHost16(address, AF_PACKET, 0);
  address.writeUInt16BE(ETH_P_ARP, 2);
  hostInt(linkIndex).copy(address, 4);
  return address;
}
