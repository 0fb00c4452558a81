import fc from 'fast-check';
import ipaddr from 'ipaddr.js';
import t from 'tap';
import type { Cidr, Hlc, RouteKey, ServiceId } from '../../../events/brand.ts';
import { deriveClasses } from '../../../projections/desired/firewall.ts';
import { compareRoutes, prefixLength } from '../../../projections/desired/precedence.ts';
import type { RouteView } from '../../../projections/views.ts';
import { hlcAt, id } from './history.ts';

const network = (address: string, length: number): Cidr => {
  const parsed = ipaddr.parse(address);
  return (
    parsed.kind() === 'ipv4'
      ? `${ipaddr.IPv4.networkAddressFromCIDR(`${address}/${length}`)}/${length}`
      : `${ipaddr.IPv6.networkAddressFromCIDR(`${address}/${length}`)}/${length}`
  ) as Cidr;
};

// A small world, so that routes and packets overlap at many prefix lengths.
const v4 = fc
  .array(fc.constantFrom(0, 1, 128, 255), { minLength: 4, maxLength: 4 })
  .map((bytes) => bytes.join('.'));
const v6 = fc
  .array(fc.constantFrom('0', '1', '8000', 'ffff'), { minLength: 8, maxLength: 8 })
  .map((words) => ipaddr.parse(words.join(':')).toString());

const family = fc.constantFrom('ipv4' as const, 'ipv6' as const);
const cidrOf = (of: 'ipv4' | 'ipv6') =>
  of === 'ipv4'
    ? fc.tuple(v4, fc.constantFrom(0, 1, 8, 9, 16, 24, 32)).map(([a, l]) => network(a, l))
    : fc.tuple(v6, fc.constantFrom(0, 1, 16, 17, 64, 128)).map(([a, l]) => network(a, l));

const route = family.chain((of) =>
  fc
    .record({
      source: fc.option(cidrOf(of), { nil: null }),
      dest: fc.option(cidrOf(of), { nil: null }),
      priority: fc.integer({ min: 0, max: 2 }),
      created: fc.integer({ min: 0, max: 3 }),
      service: fc.integer({ min: 1, max: 3 }),
    })
    .filter(({ source, dest }) => source !== null || dest !== null),
);
const packet = family.chain((of) => {
  const address = of === 'ipv4' ? v4 : v6;
  return fc.record({ source: address, dest: address });
});

const inside = (address: string, cidr: Cidr | null): boolean => {
  if (cidr === null) return true;
  const ip = ipaddr.parse(address);
  const [net, length] = ipaddr.parseCIDR(cidr);
  return ip.kind() === net.kind() && ip.match(net, length);
};

t.test('class maps carry what a naive matcher, written from SPEC section 10, says', async (t) => {
  fc.assert(
    fc.property(
      fc.array(route, { minLength: 1, maxLength: 40 }),
      fc.array(packet, { minLength: 1, maxLength: 30 }),
      (specs, packets) => {
        const views = specs.map(
          (spec, index): RouteView => ({
            key: id('rte', index + 1) as RouteKey,
            id: index + 1,
            service_id: id('svc', spec.service) as ServiceId,
            priority: spec.priority,
            source_cidr: spec.source,
            dest_cidr: spec.dest,
            created_at: '',
            created_hlc: hlcAt(1_800_000_000_000 + spec.created),
            version: 1,
          }),
        );
        const classes = deriveClasses([views]);
        for (const { source, dest } of packets) {
          const expected = naive(views, source, dest);
          const found = classes
            .flatMap((one) => one.routes)
            .find((r) => inside(source, r.source_cidr) && inside(dest, r.dest_cidr));
          if (found?.key !== expected) return false;
        }
        return true;
      },
    ),
    { numRuns: 500 },
  );
  t.pass();
});

/** Every route that matches, best by each criterion in turn. */
function naive(routes: readonly RouteView[], source: string, dest: string): RouteKey | undefined {
  const length = (cidr: Cidr | null): number => (cidr === null ? -1 : prefixLength(cidr));
  const kind = (r: RouteView): number =>
    r.source_cidr !== null && r.dest_cidr !== null ? 3 : r.source_cidr !== null ? 2 : 1;
  const criteria: ((r: RouteView) => number)[] = [
    kind,
    (r) => length(r.source_cidr),
    (r) => length(r.dest_cidr),
    (r) => r.priority,
    (r) => -Number.parseInt(r.created_hlc.slice(0, 12), 16),
  ];
  let left = routes.filter((r) => inside(source, r.source_cidr) && inside(dest, r.dest_cidr));
  for (const criterion of criteria) {
    const best = Math.max(...left.map(criterion));
    left = left.filter((r) => criterion(r) === best);
  }
  return left.map((r) => r.key).sort()[0];
}

t.test('the comparator is a total order', async (t) => {
  const ranked = route.map((spec) => ({
    source_length: spec.source === null ? null : prefixLength(spec.source),
    dest_length: spec.dest === null ? null : prefixLength(spec.dest),
    priority: spec.priority,
    created_hlc: hlcAt(spec.created) as Hlc,
    key: `${spec.service}` as RouteKey,
  }));
  fc.assert(
    fc.property(ranked, ranked, ranked, (a, b, c) => {
      const antisymmetric = Math.sign(compareRoutes(a, b)) === -Math.sign(compareRoutes(b, a)) + 0;
      const transitive = !(compareRoutes(a, b) <= 0 && compareRoutes(b, c) <= 0) || compareRoutes(a, c) <= 0;
      return antisymmetric && transitive;
    }),
    { numRuns: 2_000 },
  );
  t.pass();
});
