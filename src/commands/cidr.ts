import ipaddr from 'ipaddr.js';
import type { Cidr } from '../../events/brand.ts';
import { ArcticError } from '../../events/errors.ts';

export type Family = 'ipv4' | 'ipv6';

export interface ParsedCidr {
  readonly family: Family;
  /** The address as written, not masked. */
  readonly bytes: readonly number[];
  readonly length: number;
}

/** A network in canonical form; a fault is INVALID_CIDR at `pointer`, with the corrected CIDR where there is one. */
export function networkCidr(text: string, pointer: string): Cidr {
  const { family, bytes, length } = parseCidr(text, pointer);
  const masked = maskBytes(bytes, length);
  const canonical = `${formatAddress(masked)}/${length}`;
  if (masked.some((byte, i) => byte !== bytes[i])) {
    throw invalid(pointer, `${text} has host bits set; the network is ${canonical}`);
  }
  refuseReserved(family, masked, length, text, pointer);
  return canonical as Cidr;
}

/** The address of an interface with its prefix length (`10.1.0.1/24`), in canonical form. */
export function interfaceCidr(text: string, family: Family, pointer: string): Cidr {
  const parsed = parseCidr(text, pointer);
  if (parsed.family !== family) {
    throw invalid(
      pointer,
      `${text} is ${nameOf(parsed.family)}, but an ${nameOf(family)} address is wanted here`,
    );
  }
  const { bytes, length } = parsed;
  refuseReserved(family, bytes, length, text, pointer);
  if (length === 0) throw invalid(pointer, `${text} has no network part; give the prefix length of the link`);
  const bits = bytes.length * 8;
  const network = maskBytes(bytes, length);
  // RFC 3021 and RFC 6164: on links of two addresses, and for single ones, every address is a host's.
  if (length < bits - 1 && network.every((byte, i) => byte === bytes[i])) {
    const first = [...network.slice(0, -1), (network.at(-1) ?? 0) + 1];
    throw invalid(
      pointer,
      `${text} is the address of the network; an interface needs one of its own in it, such as ${formatAddress(first)}/${length}`,
    );
  }
  if (family === 'ipv4' && length < 31 && isBroadcast(bytes, length)) {
    throw invalid(pointer, `${text} is the broadcast address of its network`);
  }
  return `${formatAddress(bytes)}/${length}` as Cidr;
}

export const familyOf = (cidr: Cidr): Family => (cidr.includes(':') ? 'ipv6' : 'ipv4');

const nameOf = (family: Family): string => (family === 'ipv4' ? 'IPv4' : 'IPv6');

/** Strict: four decimal parts without leading zeros, no zone, no IPv4 inside IPv6 that would hide its family. */
function parseCidr(text: string, pointer: string): ParsedCidr {
  const slash = text.indexOf('/');
  const address = slash === -1 ? text : text.slice(0, slash);
  const family: Family | undefined = ipaddr.IPv4.isValidFourPartDecimal(address)
    ? 'ipv4'
    : address.includes(':') && !address.includes('%') && ipaddr.IPv6.isValid(address)
      ? 'ipv6'
      : undefined;
  if (family === undefined || (family === 'ipv4' && /(^|\.)0\d/.test(address))) {
    throw invalid(
      pointer,
      `${JSON.stringify(text)} is not a CIDR; write it like 10.1.0.0/16 or 2001:db8::/32`,
    );
  }
  const bytes = ipaddr.parse(address).toByteArray();
  const bits = bytes.length * 8;
  if (slash === -1) {
    throw invalid(
      pointer,
      `${text} lacks a prefix length; for this one address write ${formatAddress(bytes)}/${bits}`,
    );
  }
  const digits = text.slice(slash + 1);
  if (!/^(0|[1-9]\d{0,2})$/.test(digits) || Number(digits) > bits) {
    throw invalid(pointer, `${text} has a wrong prefix length; ${nameOf(family)} takes 0 to ${bits}`);
  }
  const length = Number(digits);
  if (family === 'ipv6' && length >= 96 && isMapped(bytes)) {
    const inner = `${formatAddress(bytes.slice(12))}/${length - 96}`;
    throw invalid(pointer, `${text} is IPv4 written as IPv6; write ${inner}`);
  }
  return { family, bytes, length };
}

function refuseReserved(
  family: Family,
  bytes: readonly number[],
  length: number,
  text: string,
  pointer: string,
): void {
  const [first = 0, second = 0] = bytes;
  if (family === 'ipv4') {
    if (first === 127 && length >= 8)
      throw invalid(pointer, `${text} is loopback, which never leaves its host`);
    if (first >= 224 && first <= 239 && length >= 4)
      throw invalid(pointer, `${text} is multicast, which TCP and a path between two peers cannot carry`);
    return;
  }
  if (length === 128 && bytes.slice(0, 15).every((byte) => byte === 0) && bytes[15] === 1) {
    throw invalid(pointer, `${text} is loopback, which never leaves its host`);
  }
  if (first === 0xff && length >= 8)
    throw invalid(pointer, `${text} is multicast, which TCP and a path between two peers cannot carry`);
  if (first === 0xfe && (second & 0xc0) === 0x80 && length >= 10) {
    throw invalid(pointer, `${text} is link-local, which never leaves its link`);
  }
}

function maskBytes(bytes: readonly number[], length: number): readonly number[] {
  return bytes.map((byte, i) => {
    const kept = Math.min(8, Math.max(0, length - i * 8));
    return byte & (0xff << (8 - kept)) & 0xff;
  });
}

const isBroadcast = (bytes: readonly number[], length: number): boolean => {
  const host = maskBytes(bytes, length).map((byte, i) => (bytes[i] ?? 0) ^ byte);
  const all = maskBytes(
    bytes.map(() => 0xff),
    length,
  ).map((byte) => 0xff ^ byte);
  return host.every((byte, i) => byte === all[i]);
};

const isMapped = (bytes: readonly number[]): boolean =>
  bytes.slice(0, 10).every((byte) => byte === 0) && bytes[10] === 0xff && bytes[11] === 0xff;

/** RFC 5952 for IPv6. */
const formatAddress = (bytes: readonly number[]): string => {
  const address = ipaddr.fromByteArray([...bytes]);
  return address instanceof ipaddr.IPv6 ? address.toRFC5952String() : address.toString();
};

const invalid = (pointer: string, message: string) =>
  new ArcticError('INVALID_CIDR', `${message}.`, [{ pointer, message }]);
