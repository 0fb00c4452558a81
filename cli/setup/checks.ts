import { existsSync, readFileSync } from 'node:fs';
import { isIP } from 'node:net';
import { dirname, join } from 'node:path';
import ipaddr from 'ipaddr.js';
import { checkNetwork } from '../../events/cidr.ts';
import { ArcticError } from '../../events/errors.ts';
import { type License, parseLicense, verifyLicense } from '../../src/identity/license.ts';
import { loadTrustRoots, parsePublicRoot, type TrustRoot } from '../../src/identity/trust-roots.ts';
import { systemReason } from '../failure.ts';

/** What is wrong with an answer, in words; undefined when it holds. */
export type Fault = string | undefined;

export const nameFault = (name: string): Fault =>
  name === '' || name.length > 63
    ? 'A name has 1 to 63 characters.'
    : /\p{Cc}/u.test(name)
      ? 'A name has no control characters.'
      : undefined;

export const customerFault = (customer: string): Fault =>
  /^(cust_)?[A-Za-z0-9_-]{1,58}$/.test(customer)
    ? undefined
    : 'A customer id has letters, digits, - and _, e.g. acme.';

export const customerId = (customer: string): string =>
  customer.startsWith('cust_') ? customer : `cust_${customer}`;

const ADDRESS = /^(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):([0-9]{1,5})$/;

/** Host and port of `HOST:PORT`. */
export function parseAddress(text: string): { readonly host: string; readonly port: number } | undefined {
  const match = ADDRESS.exec(text.replace(/^https?:\/\//i, '').replace(/\/$/, ''));
  const port = Number(match?.[2] ?? 0);
  if (match === null || port < 1 || port > 65_535) return undefined;
  return { host: (match[1] ?? '').replace(/^\[|\]$/g, ''), port };
}

export const formatAddress = ({ host, port }: { readonly host: string; readonly port: number }): string =>
  host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`;

export function cidrFault(text: string): Fault {
  const checked = checkNetwork(text);
  return 'cidr' in checked ? undefined : `${checked.fault}.`;
}

/** Whether an address to connect to lies behind a route. */
export function insideFault(text: string, cidr: string): Fault {
  const address = parseAddress(text);
  if (address === undefined || isIP(address.host) === 0)
    return 'An IP address and a port, such as 192.168.100.10:443.';
  const [network, bits] = ipaddr.parseCIDR(cidr);
  const ip = ipaddr.parse(address.host);
  return ip.kind() === network.kind() && ip.match(network, bits)
    ? undefined
    : `${address.host} is not in ${cidr}, so it would not go through the service.`;
}

export interface CheckedLicense {
  readonly license: License | undefined;
  readonly fault: Fault;
  /** The public root beside it that verifies it, though it is not trusted on this host yet. */
  readonly rootFile: string | undefined;
}

const readRoot = (path: string): TrustRoot => ({
  name: path,
  publicKey: parsePublicRoot(readFileSync(path, 'utf8'), path),
});

const faultOf = (error: unknown): string => {
  if (error instanceof ArcticError) return error.message;
  return `${systemReason(error)}.`;
};

/** Reads and verifies a license against the trusted roots, and the root named or lying beside it. */
export function checkLicense(
  path: string,
  trustDirectory: string,
  now: number,
  rootFile?: string,
): CheckedLicense {
  const refuse = (fault: string): CheckedLicense => ({ license: undefined, fault, rootFile: undefined });
  let document: unknown;
  try {
    document = parseLicense(readFileSync(path, 'utf8'), path);
  } catch (error) {
    return refuse(
      error instanceof ArcticError ? error.message : `cannot read ${path}: ${systemReason(error)}.`,
    );
  }
  try {
    const license = verifyLicense(document, loadTrustRoots(trustDirectory));
    return { license, fault: expiredFault(license, now), rootFile: undefined };
  } catch (error) {
    const beside = rootFile ?? join(dirname(path), 'root.pub');
    if (!existsSync(beside)) return refuse(faultOf(error));
    try {
      const license = verifyLicense(document, [readRoot(beside)]);
      return { license, fault: expiredFault(license, now), rootFile: beside };
    } catch (second) {
      return refuse(faultOf(rootFile === undefined ? error : second));
    }
  }
}

const expiredFault = (license: License, now: number): Fault =>
  Date.parse(license.expires_at) > now
    ? undefined
    : `license ${license.license_id} expired on ${license.expires_at.slice(0, 10)}.`;

/** Whether a fault of a license is that nobody here vouches for it, which a root can mend. */
export const lacksRoot = (fault: string): boolean => /trust root/.test(fault);
