/** A snapshot that is written while events come tells how things stood when it was begun. */
import fc from 'fast-check';
import t from 'tap';
import { Fold } from '../../../projections/fold.ts';
import { History, id, peer } from './history.ts';

const ROUTES = 4_500;

const step = fc.record({
  what: fc.constantFrom('add', 'update', 'delete', 'drop service'),
  route: fc.integer({ min: 1, max: ROUTES + 20 }),
  after: fc.integer({ min: 0, max: 6 }),
});

/** By another peer, after everything else. */
function write(history: History, { what, route }: { what: string; route: number }): void {
  const service_id = id('svc', 1);
  const key = id('rte', route);
  const at = 1_800_000_000_000 + history.events.length;
  const number = route;
  const fields = { priority: 7, source_cidr: null, dest_cidr: '192.0.2.0/24' as never };
  if (what === 'add') history.add(peer(4), 'route.added', key, { service_id, number, ...fields }, at);
  else if (what === 'update') history.add(peer(4), 'route.updated', key, { service_id, priority: 8 }, at);
  else if (what === 'delete') history.add(peer(4), 'route.deleted', key, { service_id }, at);
  else history.add(peer(4), 'service.deleted', service_id, {}, at);
}

t.test('whatever is folded between the turns', async (t) => {
  const base = new History();
  base.member(1);
  base.member(2);
  const service = base.service(peer(1), 1, peer(1), peer(2));
  for (let n = 1; n <= ROUTES; n += 1)
    base.route(peer(1), n, service, null, `10.${n >> 8}.${n & 255}.0/24` as never);
  fc.assert(
    fc.property(fc.array(step, { maxLength: 20 }), (chosen) => {
      // A delete of what never was changes nothing that can be seen; this does, or one before it has.
      const steps = [...chosen, { what: 'update', route: 1, after: 1 }];
      const fold = new Fold();
      for (const event of base.events) fold.apply(event);
      const digest = fold.digest();
      const later = new History();
      for (const one of steps) write(later, one);
      const pieces: string[] = [];
      let turn = 0;
      for (const piece of fold.encodeInTurns()) {
        pieces.push(piece);
        for (const [index, one] of steps.entries()) {
          const event = later.events[index];
          if (one.after === turn && event) fold.apply(event);
        }
        turn += 1;
      }
      for (const event of later.events) fold.apply(event);
      const restored = Fold.decode(Buffer.from(pieces.join('')));
      return restored.digest() === digest && turn > 3 && fold.digest() !== digest;
    }),
    { numRuns: 12 },
  );
  t.pass();
});
