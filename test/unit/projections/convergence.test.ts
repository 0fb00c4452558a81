import fc from 'fast-check';
import t from 'tap';
import type { AnyEvent } from '../../../events/envelope.ts';
import { Fold } from '../../../projections/fold.ts';
import { stateOf } from '../../../projections/replay.ts';
import { foldOf, History, id, peer, serviceSettings } from './history.ts';

/** One random step of one peer; a few peers, services and routes, so that they meet often. */
const step = fc.record({
  origin: fc.integer({ min: 1, max: 3 }),
  what: fc.constantFrom(
    'register',
    'admit',
    'update peer',
    'remove peer',
    'leave',
    'readmit',
    'license',
    'cluster',
    'lock',
    'unlock',
    'create service',
    'update service',
    'delete service',
    'add route',
    'update route',
    'delete route',
    'create credential',
    'rotate',
    'revoke',
  ),
  entity: fc.integer({ min: 1, max: 3 }),
  other: fc.integer({ min: 1, max: 3 }),
  value: fc.integer({ min: 1, max: 5 }),
  /** Clocks of different peers run close together, so concurrent and equal readings are common. */
  at: fc.integer({ min: 0, max: 40 }),
});
type Step = typeof step extends fc.Arbitrary<infer S> ? S : never;

function write(history: History, { origin, what, entity, other, value, at }: Step): void {
  const from = peer(origin);
  const time = 1_800_000_000_000 + at;
  const service = id('svc', other);
  const key = `${'A'.repeat(42)}${value}=`;
  const address = `10.0.0.${value}:8080`;
  const departed = history.events.filter((e) => e.type === 'peer.removed' || e.type === 'peer.left');
  switch (what) {
    case 'register':
      history.add(
        peer(entity),
        'peer.registered',
        peer(entity),
        {
          peer_id: peer(entity),
          public_key: key,
          name: `n${value}`,
          address,
          endpoints: [],
          api_access: 'open',
          cluster_id: id('clu', value),
          license_id: 'lic_a',
          version: '1',
        },
        time,
      );
      break;
    case 'admit':
    case 'readmit':
      history.add(
        from,
        'peer.admitted',
        peer(entity),
        {
          peer_id: peer(entity),
          public_key: key,
          name: value > 3 ? `a${value}` : null,
          address,
          endpoints: [address],
          ...(what === 'readmit' ? { readmits: departed.map((e) => e.id) } : {}),
        },
        time,
      );
      break;
    case 'update peer':
      history.add(from, 'peer.updated', peer(entity), { name: `u${value}`, api_access: 'internal' }, time);
      break;
    case 'remove peer':
      history.add(from, 'peer.removed', peer(entity), { peer_id: peer(entity), last_seq: value }, time);
      break;
    case 'leave':
      history.add(peer(entity), 'peer.left', peer(entity), { peer_id: peer(entity) }, time);
      break;
    case 'license':
      history.license(from, value, `2026-01-0${entity}T00:00:00Z`, `l${other}`);
      break;
    case 'cluster':
      history.add(
        from,
        'cluster.created',
        id('clu', value),
        { cluster_id: id('clu', value), customer_id: 'cust_a', name: `c${other}`, description: null },
        time,
      );
      break;
    case 'lock':
      history.add(
        from,
        'cluster.lock_acquired',
        id('clu', 1),
        { fence: value, holder: `h${origin}`, purpose: 'p', expires_at_ms: at },
        time,
      );
      break;
    case 'unlock':
      history.add(from, 'cluster.lock_released', id('clu', 1), { fence: value, broken: other === 1 }, time);
      break;
    case 'create service':
      history.add(
        from,
        'service.created',
        id('svc', entity),
        serviceSettings(value, peer(other), peer((other % 3) + 1)),
        time,
      );
      break;
    case 'update service':
      history.add(
        from,
        'service.updated',
        id('svc', entity),
        value > 2 ? { name: `s${value}` } : { bandwidth_limit_mbps: value, source_peer_id: peer(other) },
        time,
      );
      break;
    case 'delete service':
      if (value === 1) history.add(from, 'service.deleted', id('svc', entity), {}, time);
      break;
    case 'add route':
      history.route(from, entity * 10 + value, service, null, `10.${value}.0.0/16`, {
        number: other,
        at: time,
      });
      break;
    case 'update route':
      history.add(
        from,
        'route.updated',
        id('rte', entity * 10 + value),
        { service_id: service, priority: at },
        time,
      );
      break;
    case 'delete route':
      history.add(from, 'route.deleted', id('rte', entity * 10 + value), { service_id: service }, time);
      break;
    case 'create credential':
      history.add(
        from,
        'credential.created',
        id('cli', entity),
        {
          client_id: id('cli', entity),
          secret_hash: `sha256:${String(value).repeat(43)}`,
          scopes: ['admin'],
          license_id: 'lic_a',
          shared: false,
        },
        time,
      );
      break;
    case 'rotate':
      history.add(
        from,
        'credential.rotated',
        id('cli', entity),
        { secret_hash: `sha256:${String(value).repeat(43)}`, previous_valid_until_ms: at },
        time,
      );
      break;
    case 'revoke':
      history.add(from, 'credential.revoked', id('cli', entity), {}, time);
      break;
  }
}

const histories = fc.array(step, { minLength: 1, maxLength: 60 }).map((steps) => {
  const history = new History();
  for (const one of steps) write(history, one);
  return history.events;
});

/** Some order of the events, some of them more than once. */
const arrival = (events: readonly AnyEvent[]): fc.Arbitrary<readonly AnyEvent[]> =>
  fc
    .tuple(
      fc.shuffledSubarray([...events], { minLength: events.length }),
      fc.array(fc.constantFrom(...events), { maxLength: 20 }),
    )
    .chain(([all, again]) => {
      const pool = [...all, ...again];
      return fc.shuffledSubarray(pool, { minLength: pool.length });
    });

const picture = (fold: Fold): string => JSON.stringify(stateOf(fold, peer(1)));

t.test('any order of arrival, with duplicates, gives the same views and the same digest', async (t) => {
  fc.assert(
    fc.property(
      histories
        .filter((events) => events.length > 0)
        .chain((events) => fc.tuple(fc.constant(events), arrival(events))),
      ([events, arrived]) => {
        const one = foldOf(events);
        const two = foldOf(arrived);
        return one.digest() === two.digest() && picture(one) === picture(two);
      },
    ),
    { numRuns: 400 },
  );
  t.pass();
});

t.test('a digest asked for on the way changes nothing', async (t) => {
  fc.assert(
    fc.property(histories, (events) => {
      const watched = new Fold();
      for (const event of events) {
        watched.apply(event);
        watched.digest();
        picture(watched);
      }
      return watched.digest() === foldOf(events).digest() && picture(watched) === picture(foldOf(events));
    }),
    { numRuns: 100 },
  );
  t.pass();
});

t.test('a snapshot and the rest equal the whole', async (t) => {
  fc.assert(
    fc.property(histories, fc.double({ min: 0, max: 1, noNaN: true }), (events, share) => {
      const cut = Math.floor(events.length * share);
      const restored = Fold.decode(foldOf(events.slice(0, cut)).encode());
      for (const event of events.slice(cut)) restored.apply(event);
      const whole = foldOf(events);
      return restored.digest() === whole.digest() && picture(restored) === picture(whole);
    }),
    { numRuns: 300 },
  );
  t.pass();
});
