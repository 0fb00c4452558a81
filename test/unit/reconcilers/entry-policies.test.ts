/** What the tunnels may carry, kept current change by change, against the same made anew. */
import fc from 'fast-check';
import t from 'tap';
import { createProjections } from '../../../projections/runner.ts';
import { PackedRoutes } from '../../../src/engines/iptun/packed-routes.ts';
import type { DesiredTunnels } from '../../../src/reconcilers/iptun/desired.ts';
import { TunnelRoutes } from '../../../src/reconcilers/iptun/tunnel-routes.ts';
import { History, id, peer } from '../projections/history.ts';
import { MemoryLog } from '../projections/memory-log.ts';
import { VirtualClock } from './virtual-clock.ts';

const step = fc.record({
  what: fc.constantFrom('service', 'drop service', 'move', 'route', 'route', 'route', 'change', 'drop'),
  service: fc.integer({ min: 1, max: 3 }),
  route: fc.integer({ min: 1, max: 10 }),
  target: fc.integer({ min: 2, max: 3 }),
  dest: fc.constantFrom('10.2.0.0/16', '10.2.2.0/24', '10.3.0.0/16', 'fd01::/32'),
});

/** Routes of two services on their way to two peers, which chance alone seldom makes. */
const MANY = [1, 2].flatMap((service) => [
  { what: 'service', service, route: 1, target: service + 1, dest: '10.2.0.0/16' },
  ...['10.2.0.0/16', '10.2.2.0/24', '10.3.0.0/16', 'fd01::/32'].map((dest, index) => ({
    what: 'route',
    service,
    route: service * 5 + index - 4,
    target: 2,
    dest,
  })),
]);

t.test('whatever comes and goes', async (t) => {
  let filled = 0;
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 3, maxLength: 40, size: 'max' }), async (steps) => {
      const history = new History();
      for (const n of [1, 2, 3]) history.member(n);
      const log = new MemoryLog();
      const projections = createProjections({ localPeer: peer(1) }, { log, clock: new VirtualClock() });
      projections.start();
      const desired = (): DesiredTunnels => ({
        iptun: projections.desired('iptun'),
        firewall: projections.desired('firewall'),
        tproxy: projections.desired('tproxy'),
      });
      const routes = new TunnelRoutes(desired, (since) => projections.firewallChanges(since));
      for (const { what, service, route, target, dest } of steps) {
        const of = id('svc', service);
        const key = id('rte', route);
        if (what === 'service') history.service(peer(1), service, peer(1), peer(target));
        else if (what === 'drop service') history.add(peer(1), 'service.deleted', of, {});
        else if (what === 'move')
          history.add(peer(1), 'service.updated', of, { target_peer_id: peer(target) });
        else if (what === 'route') history.route(peer(1), route, of, null, dest as never);
        else if (what === 'change')
          history.add(peer(1), 'route.updated', key, { service_id: of, dest_cidr: dest });
        else history.add(peer(1), 'route.deleted', key, { service_id: of });
        log.append(history.events.slice(log.events.length));
        routes.follow();
        const fresh = new TunnelRoutes(desired, undefined);
        await fresh.prepare();
        if (shown(routes) !== shown(fresh)) return false;
        filled = Math.max(filled, shown(routes).split('svc_').length);
      }
      return true;
    }),
    { numRuns: 60, examples: [[MANY]] },
  );
  t.ok(filled > 3, 'tunnels had routes');
});

const shown = (routes: TunnelRoutes): string =>
  JSON.stringify(
    routes
      .config(() => undefined)
      .peers.map(({ peerId, policy }) => [
        peerId,
        policy.entries.fallback,
        policy.entries.classes.map(({ family, destLength, routes: list }) => [
          family,
          destLength,
          list instanceof PackedRoutes ? recordsOf(list) : list,
        ]),
      ]),
  );

/** Keys with their services by name: the numbers depend on who came first. */
function recordsOf(packed: PackedRoutes): string[] {
  const bytes = Buffer.from(packed.records);
  const size = packed.keyLength + 4;
  return Array.from({ length: packed.length }, (_, index) => {
    const at = index * size;
    const service = packed.services[bytes.readUInt32LE(at + packed.keyLength)];
    return `${bytes.toString('hex', at, at + packed.keyLength)} ${service}`;
  });
}
