import { hash } from 'node:crypto';
import type { ServiceId } from '../../events/brand.ts';
import { MARK } from './contract.ts';
import type { Relevant } from './relevant.ts';

/** Bits 0 to 19 of a mark. */
const SPACE = 1 << 20;

/**
 * A number for each id: 20 bits of its SHA-256, linear probing in id order where two meet. So an id has the same number
 * after a restart, and adding one disturbs another only when they collide.
 */
export function assignNumbers<Id extends string>(ids: Iterable<Id>): ReadonlyMap<Id, number> {
  const numbers = new Map<Id, number>();
  const taken = new Set<number>();
  for (const id of [...ids].sort()) {
    let number = Number.parseInt(hash('sha256', id, 'hex').slice(0, 5), 16);
    while (taken.has(number)) number = (number + 1) % SPACE;
    taken.add(number);
    numbers.set(id, number);
  }
  return numbers;
}

/** `kind` (a constant of MARK) with the number in its low bits, as the unsigned value the kernel shows. */
export const markOf = (kind: number, number: number): number => (kind | number) >>> 0;

/** The mark of each service this host takes part in. */
export const serviceMarks = ({ entries, exits }: Relevant): ReadonlyMap<ServiceId, number> => {
  const numbers = assignNumbers([...entries, ...exits].map((service) => service.id));
  return new Map([...numbers].map(([id, number]) => [id, markOf(MARK.service, number)]));
};
