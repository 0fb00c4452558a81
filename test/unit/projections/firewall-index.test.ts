/** The firewall's part as it is kept current, held against its derivation from nothing. */
import fc from 'fast-check';
import t from 'tap';
import type { DesiredFirewall } from '../../../projections/desired/contract.ts';
import { deriveOne, desiredDigest } from '../../../projections/desired/derive.ts';
import { createProjections } from '../../../projections/runner.ts';
import { RouteMaps } from '../../../src/reconcilers/firewall/route-maps.ts';
import { VirtualClock } from '../reconcilers/virtual-clock.ts';
import { foldOf, History, id, peer } from './history.ts';
import { MemoryLog } from './memory-log.ts';

const step = fc.record({
  what: fc.constantFrom(
    'create service',
    'delete service',
    'move service',
    'reject',
    'add route',
    'add route',
    'add route',
    'update route',
    'delete route',
    'remove peer',
  ),
  origin: fc.integer({ min: 1, max: 2 }),
  service: fc.integer({ min: 1, max: 4 }),
  route: fc.integer({ min: 1, max: 12 }),
  number: fc.integer({ min: 1, max: 3 }),
  priority: fc.integer({ min: 1, max: 2 }),
  source: fc.constantFrom(null, '10.1.0.0/16', '10.1.1.0/24', 'fd01::/16'),
  dest: fc.constantFrom(null, '10.2.0.0/16', '10.2.2.0/24', '10.3.0.0/16'),
});
type Step = typeof step extends fc.Arbitrary<infer S> ? S : never;

function write(history: History, one: Step): void {
  const origin = peer(one.origin);
  const service = id('svc', one.service);
  const route = id('rte', one.route);
  const { source, priority } = one;
  const dest = source?.includes(':') ? null : one.dest;
  switch (one.what) {
    case 'create service':
      history.service(origin, one.service, peer(1 + (one.number % 2)), peer(3));
      return;
    case 'delete service':
      history.add(origin, 'service.deleted', service, {});
      return;
    case 'move service':
      history.add(origin, 'service.updated', service, { source_peer_id: peer(1 + (one.number % 2)) });
      return;
    case 'reject':
      history.add(origin, 'service.updated', service, { on_failure: one.number > 1 ? 'reject' : 'direct' });
      return;
    case 'add route':
      history.route(origin, one.route, service, source, dest, { number: one.number, priority });
      return;
    case 'update route':
      history.add(origin, 'route.updated', route, {
        service_id: service,
        source_cidr: source,
        dest_cidr: dest,
        priority,
      });
      return;
    case 'delete route':
      history.add(origin, 'route.deleted', route, { service_id: service });
      return;
    case 'remove peer':
      if (one.route === 1) history.add(peer(1), 'peer.removed', peer(3), { peer_id: peer(3), last_seq: 100 });
  }
}

const byKey = (a: { readonly key: string }, b: { readonly key: string }): number => (a.key < b.key ? -1 : 1);
const plain = ({ services, classes, transparent_exit }: DesiredFirewall) => ({
  services,
  transparent_exit,
  classes: classes.map((one) => ({ ...one, routes: [...one.routes].sort(byKey) })),
});
const elements = (maps: RouteMaps) =>
  [...maps.maps.values()]
    .map(({ name, keyTypes, elements }) => ({
      name,
      keyTypes,
      elements: [...elements.values()].map(({ key, data, route }) => ({ key, data, route })).sort(byKey),
    }))
    .sort((a, b) => (a.name < b.name ? -1 : 1));

t.test('change by change the same as from nothing, whatever the order of arrival', async (t) => {
  fc.assert(
    fc.property(
      fc.array(step, { minLength: 5, maxLength: 60 }),
      fc.array(fc.integer({ min: 1, max: 5 }), { minLength: 60, maxLength: 60 }),
      fc.boolean(),
      (steps, chunks, reversed) => {
        const history = new History();
        for (const n of [1, 2, 3]) history.member(n);
        const members = history.events.length;
        for (const one of steps) write(history, one);
        const rest = history.events.slice(members);
        const events = [...history.events.slice(0, members), ...(reversed ? rest.reverse() : rest)];
        const log = new MemoryLog();
        const projections = createProjections({ localPeer: peer(1) }, { log, clock: new VirtualClock() });
        projections.start();
        const maps = new RouteMaps();
        let at = 0;
        for (let chunk = 0; at < events.length; chunk += 1) {
          const next = events.slice(at, at + (chunk === 0 ? members : (chunks[chunk] ?? 1)));
          at += next.length;
          log.append(next);
          const live = projections.desired('firewall');
          const fresh = deriveOne('firewall', foldOf(events.slice(0, at)), peer(1));
          if (JSON.stringify(plain(live)) !== JSON.stringify(plain(fresh))) return false;
          if (projections.desiredDigest('firewall') !== desiredDigest('firewall', fresh)) return false;
          for (const service of projections.views.services.list())
            for (const route of projections.views.routes.ofService(service.id)) {
              const { source_cidr: source, dest_cidr: dest } = route;
              const alike = projections.views.routes
                .ofService(service.id)
                .filter((one) => one.source_cidr === source && one.dest_cidr === dest);
              const found = projections.views.routes.withPrefixes(service.id, source, dest);
              if (JSON.stringify(found) !== JSON.stringify(alike)) return false;
            }
          const before = elements(maps);
          const changes = maps.follow(live, projections.firewallChanges(maps.revision));
          const anew = new RouteMaps();
          anew.follow(fresh, undefined);
          if (JSON.stringify(elements(maps)) !== JSON.stringify(elements(anew))) return false;
          // What it says it changed leads from what was to what is.
          const held = new Map(
            before.map((map) => [map.name, new Map(map.elements.map((e) => [e.key, e.data]))]),
          );
          for (const name of changes.come)
            held.set(
              name,
              new Map([...(anew.maps.get(name)?.elements ?? [])].map(([key, e]) => [key, e.data])),
            );
          for (const [name, change] of changes.maps) {
            if (changes.come.has(name)) continue;
            for (const one of change.removed) held.get(name)?.delete(one.key);
            for (const one of change.added) held.get(name)?.set(one.key, one.data);
          }
          for (const name of changes.gone) held.delete(name);
          if (held.size !== anew.maps.size) return false;
          for (const [name, map] of anew.maps) {
            const values = held.get(name);
            if (values?.size !== map.elements.size) return false;
            for (const [key, element] of map.elements) if (values.get(key) !== element.data) return false;
          }
        }
        projections.stop();
        return true;
      },
    ),
    { numRuns: 200 },
  );
  t.pass();
});

t.test('who lags too far behind is told to look at everything', async (t) => {
  const history = new History();
  for (const n of [1, 2]) history.member(n);
  const service = history.service(peer(1), 1, peer(1), peer(2));
  const log = new MemoryLog();
  const projections = createProjections({ localPeer: peer(1) }, { log, clock: new VirtualClock() });
  projections.start();
  log.append(history.events);
  t.equal(projections.firewallChanges(0).changes, undefined, 'nothing was known before the index was made');
  const { revision } = projections.firewallChanges(0);
  history.route(peer(1), 1, service, null, '10.1.0.0/16');
  log.append(history.events.slice(-1));
  t.match(projections.firewallChanges(revision).changes, [
    { dest_cidr: '10.1.0.0/16', route: { number: 1 } },
  ]);
  t.strictSame(projections.firewallChanges(revision + 1).changes, []);
  await projections.rebuild();
  t.equal(projections.firewallChanges(revision + 1).changes, undefined, 'another index is another history');
  projections.stop();
});
