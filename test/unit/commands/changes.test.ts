/** Several changes in one transaction are the same changes one after the other, or nothing at all. */
import fc from 'fast-check';
import t, { type Test } from 'tap';
import type { ServiceId } from '../../../events/brand.ts';
import { ArcticError } from '../../../events/errors.ts';
import { type Change, decideChanges } from '../../../src/commands/changes.ts';
import { decideAdmitPeer } from '../../../src/commands/peers.ts';
import { newIdentity } from '../local-peer.ts';
import { createGiven } from './given.ts';

t.setTimeout(180_000);

const KNOWN = ['svc_01JD0000000000000000000001', 'svc_01JD0000000000000000000002'] as const;
const rule = (third: number, priority = 1) => ({ priority, dest_cidr: `10.${third}.0.0/16` });

/** A cluster of two with two services, the first of which has two routes. */
function cluster(t: Test) {
  const given = createGiven(t, { services: 4 });
  given.bootstrap();
  const other = newIdentity(given.clock);
  given.run((now, at) =>
    decideAdmitPeer(
      now,
      {
        peer_id: other.peerId,
        public_key: Buffer.from(other.publicKey).toString('base64'),
        name: 'second',
        address: '192.0.2.2:8080',
        endpoints: [],
        invited: true,
      },
      at,
    ),
  );
  const settings = {
    source_peer_id: given.identity.peerId,
    target_peer_id: other.peerId,
    transport_type: 'tcp' as const,
    requires_interface: true,
    desired_ipv4_cidr: null,
    desired_ipv6_cidr: null,
    fully_transparent: false,
    bandwidth_limit_mbps: 0,
  };
  for (const [at, id] of KNOWN.entries())
    given.given({ type: 'service.created', entity: id, data: { ...settings, name: `s${at}` } });
  for (const number of [1, 2])
    given.given({
      type: 'route.added',
      entity: `rte_01JD000000000000000000000${number}`,
      data: {
        service_id: KNOWN[0],
        number,
        priority: 1,
        source_cidr: null,
        dest_cidr: `10.${number}.0.0/16`,
      },
    });
  const { views } = given;
  return {
    ...given,
    target: other.peerId,
    /** Everything there is, by name. */
    shape: () => ({
      peers: views.peers.list().map(({ name, api_access }) => [name, api_access]),
      services: views.services
        .list()
        .map(({ id, name, bandwidth_limit_mbps, desired_ipv4_cidr }) => [
          name,
          bandwidth_limit_mbps,
          desired_ipv4_cidr,
          views.routes.ofService(id).map((route) => [route.id, route.priority, route.dest_cidr]),
        ]),
    }),
  };
}

const service = fc.constantFrom(...KNOWN).map((id) => id as ServiceId);
const number = fc.integer({ min: 1, max: 4 });
const rules = fc.array(
  fc.tuple(fc.integer({ min: 1, max: 5 }), fc.integer({ min: 1, max: 2 })).map(([a, b]) => rule(a, b)),
  { maxLength: 3 },
);
type Cluster = ReturnType<typeof cluster>;
const anyChange: fc.Arbitrary<(cluster: Cluster) => Change> = fc.oneof(
  fc
    .record({ name: fc.constantFrom('s0', 's1', 'new', 'newer'), routes: rules })
    .map(({ name, routes }) => ({ target }: Cluster) => ({
      kind: 'create_service' as const,
      settings: { name, target_peer_id: target },
      routes,
    })),
  fc
    .record({
      id: service,
      settings: fc.record(
        {
          name: fc.constantFrom('s0', 's1', 'other'),
          bandwidth_limit_mbps: fc.nat(3),
          desired_ipv4_cidr: fc.constantFrom(null, '10.9.0.5/24', '10.9.0.6/24'),
        },
        { requiredKeys: [] },
      ),
    })
    .map((change) => () => ({ kind: 'update_service' as const, ...change })),
  service.map((id) => () => ({ kind: 'delete_service' as const, id })),
  fc.record({ service, routes: rules }).map((change) => () => ({ kind: 'add_routes' as const, ...change })),
  fc
    .record({ service, number, settings: fc.record({ priority: fc.integer({ min: 1, max: 3 }) }) })
    .map((change) => () => ({ kind: 'update_route' as const, ...change })),
  fc.record({ service, number }).map((change) => () => ({ kind: 'delete_route' as const, ...change })),
  fc
    .record({ name: fc.constantFrom('second', 'renamed', 'first') })
    .map((settings) => ({ target }: Cluster) => ({ kind: 'update_peer' as const, id: target, settings })),
);

t.test('all of them or none, as if one by one', async (t) => {
  fc.assert(
    fc.property(fc.array(anyChange, { minLength: 1, maxLength: 8 }), (makers) => {
      const single = cluster(t);
      const together = cluster(t);
      const before = together.shape();
      let refused: { code: string; index: number } | undefined;
      for (const [index, make] of makers.entries()) {
        try {
          single.run((now, at) => decideChanges(now, [make(single)], at));
        } catch (error) {
          if (!(error instanceof ArcticError)) throw error;
          refused = { code: error.code, index };
          break;
        }
      }
      const changes = makers.map((make) => make(together));
      if (refused === undefined) {
        const { events } = together.run((now, at) => decideChanges(now, changes, at));
        return (
          new Set(events.map(({ signature }) => signature).filter(Boolean)).size <= 1 &&
          JSON.stringify(together.shape()) === JSON.stringify(single.shape())
        );
      }
      const error = together.refusal((now, at) => decideChanges(now, changes, at));
      return (
        error.code === refused.code &&
        error.details[0]?.pointer.startsWith(`/changes/${refused.index}`) === true &&
        JSON.stringify(together.shape()) === JSON.stringify(before)
      );
    }),
    { numRuns: 20 },
  );
});

t.test('services made in one transaction get interfaces of their own', async (t) => {
  const given = createGiven(t, { services: 500 });
  given.bootstrap();
  const other = newIdentity(given.clock);
  given.given({
    type: 'peer.admitted',
    entity: other.peerId,
    data: {
      peer_id: other.peerId,
      public_key: Buffer.from(other.publicKey).toString('base64'),
      name: 'second',
      address: '192.0.2.2:8080',
      endpoints: [],
    },
  });
  const changes = Array.from(
    { length: 200 },
    (_, at): Change => ({
      kind: 'create_service',
      settings: { name: `s${at}`, target_peer_id: other.peerId },
      routes: [rule(at)],
    }),
  );
  given.run((now, at) => decideChanges(now, changes, at));
  const names = given.views.services.list().map(({ id }) => id.slice(0, 15));
  t.equal(new Set(names).size, 200);
  t.equal(given.views.routes.size, 200);
});
