import { isIPv6 } from 'node:net';
import { HANDSHAKE_PENDING, HANDSHAKES_PENDING_MAX, HANDSHAKES_PENDING_PER_NETWORK } from '../parameters.ts';
import type { PendingHandshake } from './handshake.ts';

/**
 * Hellos that were answered and wait for their confirmation, which takes an honest host one round trip. Anybody can send a hello,
 * so their number is bounded, and whoever has most of them pays for a newcomer.
 */
export interface PendingHandshakes {
  /** False while this network has as many as one may: its hellos are not worth an answer. */
  admits(remoteAddress: string): boolean;
  add(handshake: PendingHandshake): void;
  /** Takes it out: a confirmation counts once. */
  take(sessionId: string): PendingHandshake | undefined;
  /** Forgets those that were never confirmed; `now` is monotonic ms. */
  sweep(now: number): void;
  clear(): void;
  readonly size: number;
}

/** A household of IPv6 has 2^64 addresses, so there a network counts as one; of IPv4 each address does. */
const networkOf = (address: string): string => {
  const plain = address.replace(/^::ffff:(?=\d+\.)/i, '');
  if (!isIPv6(plain)) return plain;
  const [head = '', tail] = plain.split('::');
  const groups = head === '' ? [] : head.split(':');
  const whole = tail === undefined ? groups : [...groups, '0', '0', '0', '0'];
  return whole
    .slice(0, 4)
    .map((group) => Number.parseInt(group, 16).toString(16))
    .join(':');
};

export function createPendingHandshakes(): PendingHandshakes {
  /** Oldest first: a Map keeps the order of insertion. */
  const waiting = new Map<string, PendingHandshake>();
  const ofNetwork = new Map<string, Set<string>>();

  const remove = (id: string): PendingHandshake | undefined => {
    const found = waiting.get(id);
    if (found === undefined) return undefined;
    waiting.delete(id);
    const network = networkOf(found.remoteAddress);
    const ids = ofNetwork.get(network);
    ids?.delete(id);
    if (ids?.size === 0) ofNetwork.delete(network);
    return found;
  };

  const forget = (id: string): void => remove(id)?.keys.erase();

  /** The oldest of the network that has most; between equals, of the one that has been here longest. */
  const leastWorth = (): string | undefined => {
    let most: ReadonlySet<string> = new Set();
    for (const ids of ofNetwork.values()) if (ids.size > most.size) most = ids;
    return most.values().next().value;
  };

  return {
    admits: (address) => (ofNetwork.get(networkOf(address))?.size ?? 0) < HANDSHAKES_PENDING_PER_NETWORK,
    add(handshake) {
      const id = handshake.keys.sessionId;
      forget(id);
      if (waiting.size >= HANDSHAKES_PENDING_MAX) {
        const victim = leastWorth();
        if (victim !== undefined) forget(victim);
      }
      const network = networkOf(handshake.remoteAddress);
      const ids = ofNetwork.get(network) ?? new Set();
      ofNetwork.set(network, ids.add(id));
      waiting.set(id, handshake);
    },
    take: remove,
    sweep(now) {
      for (const [id, { startedAt }] of waiting) {
        if (now - startedAt < HANDSHAKE_PENDING) break;
        forget(id);
      }
    },
    clear() {
      for (const id of [...waiting.keys()]) forget(id);
    },
    get size() {
      return waiting.size;
    },
  };
}
