/** `10.0.0.0/8` and raw bytes. */
import { addressBytes, addressText } from '../../native/sockaddr.ts';
import { type IpFamily, KernelError } from '../contract.ts';

export const AF_INET = 2;
export const AF_INET6 = 10;

export function familyNumber(family: IpFamily): number {
  return family === 'ipv4' ? AF_INET : AF_INET6;
}

export function familyOf(number: number): IpFamily | undefined {
  return number === AF_INET ? 'ipv4' : number === AF_INET6 ? 'ipv6' : undefined;
}

export interface Cidr {
  readonly family: IpFamily;
  readonly bytes: Buffer;
  readonly prefixLength: number;
}

/** Accepts a plain address as a host prefix. Throws KernelError EINVAL. */
export function parseCidr(text: string): Cidr {
  const [address = '', prefix, ...rest] = text.split('/');
  let bytes: Buffer;
  try {
    bytes = addressBytes(address);
  } catch {
    throw new KernelError('EINVAL', 22, text, 'not an address or CIDR');
  }
  const most = bytes.length * 8;
  const prefixLength = prefix === undefined ? most : /^\d{1,3}$/.test(prefix) ? Number(prefix) : -1;
  if (rest.length > 0 || prefixLength < 0 || prefixLength > most) {
    throw new KernelError('EINVAL', 22, text, `the prefix length must be 0 to ${most}`);
  }
  return { family: bytes.length === 4 ? 'ipv4' : 'ipv6', bytes, prefixLength };
}

/** The text of a prefix; the kernel leaves the address out for length 0. */
export function cidrText(family: IpFamily, address: string | undefined, prefixLength: number): string {
  const any = family === 'ipv4' ? '0.0.0.0' : '::';
  return `${address === undefined ? any : addressText(Buffer.from(address, 'hex'))}/${prefixLength}`;
}

/** `10.0.0.1/24` with the address in canonical text; the host part is kept. */
export function canonicalCidr(text: string): string {
  const { family, bytes, prefixLength } = parseCidr(text);
  return cidrText(family, bytes.toString('hex'), prefixLength);
}

/** `10.0.0.1/24` -> `10.0.0.0/24`. */
export function networkOf(text: string): string {
  const { family, bytes, prefixLength } = parseCidr(text);
  const network = Buffer.from(bytes);
  for (let bit = prefixLength; bit < network.length * 8; bit += 1) {
    network.writeUInt8((network[bit >> 3] ?? 0) & ~(0x80 >> (bit & 7)), bit >> 3);
  }
  return cidrText(family, network.toString('hex'), prefixLength);
}

export function hexOfAddress(text: string): string {
  return parseCidr(text).bytes.toString('hex');
}

export function textOfAddress(hex: string | undefined): string | undefined {
  return hex === undefined ? undefined : addressText(Buffer.from(hex, 'hex'));
}
