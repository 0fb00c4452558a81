/**
 * What an exit may dial. It follows from the configuration alone; nothing a peer sends widens it.
 */
import { addressBytes } from '../../native/sockaddr.ts';
import type { TproxyExit } from './contract.ts';
import type { Open } from './frames.ts';

interface Prefix {
  readonly bytes: Buffer;
  readonly length: number;
}

interface Rule {
  readonly source: Prefix | null;
  readonly destination: Prefix | null;
}

export interface ExitPolicy {
  readonly exit: TproxyExit;
  /** True when the service, the peer, the destination and (where a route has one) the client's address fit. */
  allows(peerId: string, open: Pick<Open, 'serviceId' | 'source' | 'destination'>): boolean;
}

/** Destinations that are this host or nobody. A route has to name them; `0.0.0.0/0` does not mean the exit's loopback. */
const SPECIAL = ['127.0.0.0/8', '0.0.0.0/8', '224.0.0.0/3', '::1/128', '::/128', 'ff00::/8'].map(parsePrefix);

/** Throws RangeError for a malformed CIDR. */
export function compileExitPolicy(exit: TproxyExit): ExitPolicy {
  const rules: readonly Rule[] = exit.allowed.map((one) => ({
    source: one.source === null ? null : parsePrefix(one.source),
    destination: one.destination === null ? null : parsePrefix(one.destination),
  }));
  return {
    exit,
    allows(peerId, open) {
      if (peerId !== exit.peerId || open.serviceId !== exit.serviceId) return false;
      const destination = addressBytes(open.destination.address);
      const source = addressBytes(open.source.address);
      if (destination.length !== source.length || open.destination.port === 0) return false;
      const special = SPECIAL.find((prefix) => contains(prefix, destination));
      return rules.some(
        (rule) =>
          // A rule without either would allow everything; no route looks like that.
          (rule.source !== null || rule.destination !== null) &&
          (rule.source === null || contains(rule.source, source)) &&
          (rule.destination === null
            ? special === undefined
            : contains(rule.destination, destination) &&
              (special === undefined || rule.destination.length >= special.length)),
      );
    },
  };
}

function parsePrefix(cidr: string): Prefix {
  const [address = '', width = ''] = cidr.split('/');
  const bytes = addressBytes(address);
  const length = Number(width);
  if (!/^\d{1,3}$/.test(width) || length > bytes.length * 8) throw new RangeError(`not a CIDR: ${cidr}`);
  return { bytes, length };
}

function contains(prefix: Prefix, address: Buffer): boolean {
  if (prefix.bytes.length !== address.length) return false;
  const whole = prefix.length >> 3;
  if (prefix.bytes.compare(address, 0, whole, 0, whole) !== 0) return false;
  const rest = prefix.length & 7;
  if (rest === 0) return true;
  const mask = (0xff << (8 - rest)) & 0xff;
  return ((prefix.bytes[whole] ?? 0) & mask) === ((address[whole] ?? 0) & mask);
}
