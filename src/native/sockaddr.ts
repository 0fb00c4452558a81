/** struct sockaddr_in and sockaddr_in6 (netinet/in.h) as Buffers. */
import { isIPv4, isIPv6 } from 'node:net';
import { readHost16, writeHost16 } from './byte-order.ts';

export const AF_INET = 2;
export const AF_INET6 = 10;
/** Room for any address family we use (sockaddr_in6 is 28 bytes). */
export const SOCKADDR_LENGTH = 28;

export interface SocketAddress {
  readonly family: 'ipv4' | 'ipv6';
  readonly address: string;
  readonly port: number;
}

/** 4 or 16 bytes in network order; a zone (`fe80::1%eth0`) is not part of it. Throws RangeError for anything else. */
export function addressBytes(address: string): Buffer {
  if (isIPv4(address)) return Buffer.from(address.split('.').map(Number));
  if (!isIPv6(address) || address.includes('%')) throw new RangeError(`not an IP address: ${address}`);
  const bytes = Buffer.alloc(16);
  const [head = '', tail] = address.split('::');
  const front = groups(head);
  const back = tail === undefined ? [] : groups(tail);
  front.forEach((value, index) => {
    bytes.writeUInt16BE(value, index * 2);
  });
  back.forEach((value, index) => {
    bytes.writeUInt16BE(value, 16 - (back.length - index) * 2);
  });
  return bytes;
}

function groups(text: string): number[] {
  if (text === '') return [];
  return text.split(':').flatMap((group) => {
    if (!group.includes('.')) return [Number.parseInt(group, 16)];
    const quad = Buffer.from(group.split('.').map(Number));
    return [quad.readUInt16BE(0), quad.readUInt16BE(2)];
  });
}

/** The canonical text (RFC 5952) of 4 or 16 bytes. */
export function addressText(bytes: Uint8Array): string {
  if (bytes.length === 4) return bytes.join('.');
  const view = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
  const words = Array.from({ length: 8 }, (_, index) => view.readUInt16BE(index * 2));
  if (words.slice(0, 5).every((word) => word === 0) && words[5] === 0xffff) {
    return `::ffff:${view.subarray(12).join('.')}`;
  }
  let best = { start: -1, length: 1 };
  for (let start = 0; start < 8; start += 1) {
    let length = 0;
    while (start + length < 8 && words[start + length] === 0) length += 1;
    if (length > best.length) best = { start, length };
  }
  const text = (part: number[]) => part.map((word) => word.toString(16)).join(':');
  if (best.start < 0) return text(words);
  return `${text(words.slice(0, best.start))}::${text(words.slice(best.start + best.length))}`;
}

export function encodeSockaddr(address: string, port: number): Buffer {
  const bytes = addressBytes(address);
  const sockaddr = Buffer.alloc(bytes.length === 4 ? 16 : SOCKADDR_LENGTH);
  writeHost16(sockaddr, bytes.length === 4 ? AF_INET : AF_INET6, 0);
  sockaddr.writeUInt16BE(port, 2);
  bytes.copy(sockaddr, bytes.length === 4 ? 4 : 8);
  return sockaddr;
}

/** Undefined for a family other than IPv4 and IPv6. */
export function decodeSockaddr(sockaddr: Buffer): SocketAddress | undefined {
  const family = readHost16(sockaddr, 0);
  const port = sockaddr.readUInt16BE(2);
  if (family === AF_INET) return { family: 'ipv4', address: addressText(sockaddr.subarray(4, 8)), port };
  if (family === AF_INET6) return { family: 'ipv6', address: addressText(sockaddr.subarray(8, 24)), port };
  return undefined;
}
