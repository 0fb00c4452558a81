import { networkInterfaces } from 'node:os';

/** Whether an address is one of this host: then its files, ports and kernel are looked at too. */
export function isThisHost(url: string): boolean {
  const host = new URL(url).hostname.replace(/^\[|\]$/g, '');
  if (host === 'localhost' || host.startsWith('127.') || host === '::1') return true;
  return Object.values(networkInterfaces()).some((addresses) =>
    addresses?.some(({ address }) => address === host),
  );
}
