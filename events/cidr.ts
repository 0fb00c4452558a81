import ipaddr from 'ipaddr.js';
import type { Cidr } from './brand.ts';

/** The rules for CIDRs, for the agents' decisions and for files and answers that are judged before an agent is asked. */
export type Checked = { readonly cidr: Cidr } | { readonly fault: string };
export type Family = 'ipv4' | 'ipv6';

interface Parsed {
  readonly family: Family;
  readonly bytes: readonly number[];
  readonly length: number;
}

const NAMES = { ipv4: 'IPv4', ipv6: 'IPv6' } as const;

export const familyOf = (cidr: Cidr): Family => (cidr.includes(':') ? 'ipv6' : 'ipv4');

/** A network in canonical form; host bits are refused with the corrected network. */
export function checkNetwork(text: string): Checked {
  const parsed = parse(text);
  if ('fault' in parsed) return parsed;
  const { family, bytes, length } = parsed;
  const network = masked(bytes, length);
  const canonical = `${format(network)}/${length}`;
  if (network.some((byte, at) => byte !== bytes[at]))
    return { fault: `${text} has host bits set; the network is ${canonical}` };
  const reserved = reservedFor(family, bytes, length);
  return reserved === undefined ? { cidr: canonical as Cidr } : { fault: `${text} is ${reserved}` };
}

/** The address of an interface with its prefix length, in canonical form. */
export function checkInterface(text: string, family: Family): Checked {
  const parsed = parse(text);
  if ('fault' in parsed) return parsed;
  if (parsed.family !== family)
    return { fault: `${text} is ${NAMES[parsed.family]}, but an ${NAMES[family]} address is wanted here` };
  const { bytes, length } = parsed;
  const reserved = reservedFor(family, bytes, length);
  if (reserved !== undefined) return { fault: `${text} is ${reserved}` };
  if (length === 0) return { fault: `${text} has no network part; give the prefix length of the link` };
  // RFC 3021 and RFC 6164: on links of two addresses, and for single ones, every address is a host's.
  const network = masked(bytes, length);
  if (length < bytes.length * 8 - 1 && same(network, bytes)) {
    const first = [...network.slice(0, -1), (network.at(-1) ?? 0) + 1];
    return {
      fault: `${text} is the address of the network; an interface needs one of its own in it, such as ${format(first)}/${length}`,
    };
  }
  const broadcast = bytes.map((byte, at) => byte | (0xff ^ maskByte(at, length)));
  if (family === 'ipv4' && length < 31 && same(broadcast, bytes))
    return { fault: `${text} is the broadcast address of its network` };
  return { cidr: `${format(bytes)}/${length}` as Cidr };
}

const OCTET = '(0|[1-9]\\d{0,2})';
const IPV4 = new RegExp(`^${[OCTET, OCTET, OCTET, OCTET].join('\\.')}/(0|[1-9]\\d?)$`);

/** Most of what is parsed, 5,000 in one request; undefined for everything else, and for all that is wrong. */
function parseIpv4(text: string): Parsed | undefined {
  const parts = IPV4.exec(text)?.slice(1).map(Number);
  if (parts === undefined) return undefined;
  const bytes = parts.slice(0, 4);
  const [, , , , length = 33] = parts;
  return length <= 32 && bytes.every((byte) => byte <= 255) ? { family: 'ipv4', bytes, length } : undefined;
}

/** Four decimal parts without leading zeros; no zone; no IPv4 inside IPv6 that would hide its family. */
function parse(text: string): Parsed | { readonly fault: string } {
  const plain = parseIpv4(text);
  if (plain !== undefined) return plain;
  const [address = '', digits, more] = text.split('/');
  const isV4 = ipaddr.IPv4.isValidFourPartDecimal(address) && !/(^|\.)0\d/.test(address);
  const isV6 = address.includes(':') && !address.includes('%') && ipaddr.IPv6.isValid(address);
  if (!isV4 && !isV6)
    return { fault: `${JSON.stringify(text)} is not a CIDR; write it like 10.1.0.0/16 or 2001:db8::/32` };
  const family: Family = isV4 ? 'ipv4' : 'ipv6';
  const bytes = ipaddr.parse(address).toByteArray();
  const bits = bytes.length * 8;
  if (digits === undefined)
    return {
      fault: `${text} lacks a prefix length; for this one address write ${format(bytes)}/${bits}`,
    };
  const length = Number(digits);
  if (more !== undefined || !/^(0|[1-9]\d{0,2})$/.test(digits) || length > bits)
    return { fault: `${text} has a wrong prefix length; ${NAMES[family]} takes 0 to ${bits}` };
  const mapped =
    family === 'ipv6' &&
    length >= 96 &&
    bytes.slice(0, 12).every((byte, at) => byte === (at < 10 ? 0 : 0xff));
  if (mapped)
    return {
      fault: `${text} is IPv4 written as IPv6; write ${format(bytes.slice(12))}/${length - 96}`,
    };
  return { family, bytes, length };
}

function reservedFor(family: Family, bytes: readonly number[], length: number): string | undefined {
  const [first = 0, second = 0] = bytes;
  const loopback = 'loopback, which never leaves its host';
  const multicast = 'multicast, which TCP and a path between two peers cannot carry';
  if (family === 'ipv4') {
    if (first === 127 && length >= 8) return loopback;
    return first >= 224 && first <= 239 && length >= 4 ? multicast : undefined;
  }
  if (length === 128 && bytes.every((byte, at) => byte === (at === 15 ? 1 : 0))) return loopback;
  if (first === 0xff && length >= 8) return multicast;
  const linkLocal = first === 0xfe && (second & 0xc0) === 0x80 && length >= 10;
  return linkLocal ? 'link-local, which never leaves its link' : undefined;
}

const maskByte = (at: number, length: number): number =>
  (0xff << (8 - Math.min(8, Math.max(0, length - at * 8)))) & 0xff;
const masked = (bytes: readonly number[], length: number): readonly number[] =>
  bytes.map((byte, at) => byte & maskByte(at, length));
const same = (a: readonly number[], b: readonly number[]): boolean => a.every((byte, at) => byte === b[at]);

/** RFC 5952 for IPv6. */
const format = (bytes: readonly number[]): string =>
  bytes.length === 4 ? bytes.join('.') : new ipaddr.IPv6([...bytes]).toRFC5952String();
