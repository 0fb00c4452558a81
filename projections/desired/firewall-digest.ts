import { hash } from 'node:crypto';
import { sha256 } from '../digest.ts';
import type { ClassRoute, DesiredFirewall, RouteClass } from './contract.ts';

/**
 * The routes of a class as one number: the sum of their SHA-256 modulo 2^256, which does not depend on their order, so that
 * a route is added or taken away without looking at the others.
 */
export interface ClassSum {
  readonly count: number;
  readonly sum: bigint;
}

const MODULUS = 1n << 256n;

const numberOf = (route: ClassRoute): bigint =>
  BigInt(
    `0x${hash('sha256', `${route.key} ${route.service_id} ${route.number} ${route.source_cidr} ${route.dest_cidr}`, 'hex')}`,
  );

/** The sum after one route went and another came. */
export function routeSum(
  sum: ClassSum,
  gone: ClassRoute | undefined,
  come: ClassRoute | undefined,
): ClassSum {
  const minus = gone === undefined ? 0n : numberOf(gone);
  const plus = come === undefined ? 0n : numberOf(come);
  return {
    count: sum.count + (come === undefined ? 0 : 1) - (gone === undefined ? 0 : 1),
    sum: (sum.sum + plus - minus + MODULUS) % MODULUS,
  };
}

const sums = new WeakMap<RouteClass, ClassSum>();

/** Says the sum of a class whose routes need not be listed for it. */
export const presetDigest = (routeClass: RouteClass, sum: ClassSum): void => void sums.set(routeClass, sum);

function sumOf(routeClass: RouteClass): ClassSum {
  const known = sums.get(routeClass);
  if (known) return known;
  const total = routeClass.routes.reduce((all, route) => all + numberOf(route), 0n) % MODULUS;
  const sum = { count: routeClass.routes.length, sum: total };
  sums.set(routeClass, sum);
  return sum;
}

/** SHA-256 of what the firewall should hold: equal when, and only when, the same routes, services and order are desired. */
export const firewallDigest = ({ services, classes, transparent_exit }: DesiredFirewall): string =>
  sha256(
    JSON.stringify([
      services,
      classes.map((one) => {
        const { count, sum } = sumOf(one);
        return [one.family, one.source_length, one.dest_length, count, sum.toString(16)];
      }),
      transparent_exit,
    ]),
  );
