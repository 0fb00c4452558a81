import fc from 'fast-check';
import t from 'tap';
import type { PeerId, ServiceId } from '../../../events/brand.ts';
import type { AnyEvent } from '../../../events/envelope.ts';
import { Fold } from '../../../projections/fold.ts';
import { replay, settled, stateOf } from '../../../projections/replay.ts';
import { createProjections } from '../../../projections/runner.ts';
import { openHost, operator, routeAdded, temporaryDirectory } from '../events/given-log.ts';
import { History, id, peer } from './history.ts';
import { MemoryLog } from './memory-log.ts';

const LIAR = peer(2);

const branch = (n: number) => ({ id: id('evt', n), hash: 'a'.repeat(64), body: null, signature: null });
const claim = (history: History, by: PeerId, about: PeerId, seq: number): AnyEvent =>
  history.add(by, 'peer.forked', about, { peer_id: about, seq, first: branch(1), second: branch(2) });

/** Three members. */
const begin = () => {
  const history = new History();
  for (const n of [1, 2, 3]) history.member(n);
  return history;
};

const fold = (events: readonly AnyEvent[]): Fold => {
  const made = new Fold();
  for (const event of events) made.apply(event);
  return settled(made, () => [events]);
};
const picture = (made: Fold): string => JSON.stringify([made.digest(), stateOf(made, peer(1))]);

/** What each of two hosts holds of one life: the same of everybody, and one of the liar's two histories, as far as it got. */
const lives = fc
  .record({
    before: fc.integer({ min: 0, max: 4 }),
    first: fc.integer({ min: 1, max: 4 }),
    second: fc.integer({ min: 1, max: 4 }),
    held: fc.tuple(fc.nat({ max: 4 }), fc.nat({ max: 4 })),
    claims: fc.array(fc.record({ by: fc.constantFrom(1, 3), late: fc.nat({ max: 3 }) }), { maxLength: 3 }),
    mutual: fc.boolean(),
  })
  .map(({ before, first, second, held, claims, mutual }) => {
    const history = begin();
    const change = (n: number): AnyEvent => {
      const service = history.service(LIAR, n, LIAR, peer(1), { bandwidth_limit_mbps: n });
      history.add(LIAR, 'peer.updated', LIAR, { name: `name-${n}` });
      history.route(LIAR, n, service, `10.${n}.0.0/16`, null);
      return history.events.at(-1) as AnyEvent;
    };
    for (let n = 1; n <= before; n += 1) change(n);
    const common = [...history.events];
    const at = common.filter((event) => event.origin === LIAR).length + 1;
    const one: AnyEvent[] = [];
    for (let n = 10; n < 10 + first; n += 1) change(n);
    one.push(...history.events.slice(common.length));
    const other = one.slice(0, 3 * second).map(
      (event, index) =>
        ({
          ...event,
          id: id('evt', 5_000 + index),
          entity: event.entity.startsWith('svc_') ? id('svc', 900 + index) : event.entity,
          ...(event.type === 'peer.updated' ? { data: { name: `other-${index}` } } : {}),
        }) as unknown as AnyEvent,
    );
    const rest = history.events.length;
    history.service(peer(3), 50, peer(3), peer(1));
    claim(history, peer(1), LIAR, at);
    for (const { by, late } of claims) claim(history, peer(by), LIAR, at + late);
    // Two that accuse each other, the third past its own end.
    if (mutual) {
      claim(history, peer(1), peer(3), 2);
      claim(history, peer(3), peer(1), 1_000);
    }
    history.service(peer(1), 51, peer(1), peer(3));
    const shared = [...common, ...history.events.slice(rest)];
    return {
      a: [...shared, ...one.slice(0, 3 * held[0])],
      b: [...shared, ...other.slice(0, 3 * held[1])],
    };
  });

const shuffled = (events: readonly AnyEvent[]) =>
  fc.shuffledSubarray([...events], { minLength: events.length });

t.test(
  'hosts that hold different histories of one origin believe the same, in any order of arrival',
  async (t) => {
    fc.assert(
      fc.property(
        lives.chain(({ a, b }) => fc.tuple(fc.constant(a), shuffled(a), shuffled(b))),
        ([ordered, a, b]) => {
          const expected = picture(fold(ordered));
          return picture(fold(a)) === expected && picture(fold(b)) === expected;
        },
      ),
      { numRuns: 500 },
    );
    t.pass();
  },
);

t.test('and a snapshot taken anywhere on the way changes nothing', async (t) => {
  fc.assert(
    fc.property(
      lives.chain(({ a }) => fc.tuple(fc.constant(a), shuffled(a), fc.nat({ max: a.length }))),
      ([ordered, arrived, cut]) => {
        const first = new Fold();
        for (const event of arrived.slice(0, cut)) first.apply(event);
        const restored = Fold.decode(settled(first, () => [arrived.slice(0, cut)]).encode());
        for (const event of arrived.slice(cut)) restored.apply(event);
        return picture(settled(restored, () => [arrived])) === picture(fold(ordered));
      },
    ),
    { numRuns: 300 },
  );
  t.pass();
});

t.test('the running projections drop what a fork excludes in the tick it is told, and say so', async (t) => {
  const history = begin();
  const kept = history.service(LIAR, 1, LIAR, peer(1)) as ServiceId;
  const dropped = history.service(LIAR, 2, LIAR, peer(1)) as ServiceId;
  const at = history.events.filter((event) => event.origin === LIAR).length;
  const log = new MemoryLog();
  const make = () =>
    createProjections({ localPeer: peer(1), snapshotEvery: 1 }, { log, clock: { after: () => () => {} } });
  const projections = make();
  projections.start();
  log.append(history.events);
  t.ok(projections.views.services.get(dropped));
  const changed = new Set<string>();
  projections.bus.on('changed', (name) => changed.add(name));
  const told = claim(history, peer(3), LIAR, at);
  log.append([told]);
  t.ok(projections.views.services.get(kept), 'what it signed before stands');
  t.equal(projections.views.services.get(dropped), undefined);
  t.equal(projections.views.peers.get(LIAR)?.forked_at, at);
  t.ok(['peers', 'services', 'firewall', 'tproxy'].every((name) => changed.has(name)));
  t.equal((await projections.verify()).matches, true);
  const before = await replay(log, peer(1), { position: (log.head - 1) as typeof log.head });
  t.ok(JSON.stringify(before.state.services).includes(dropped), 'the past is shown as it was believed');
  projections.stop();
  const again = make();
  again.start();
  t.equal(again.digest(), projections.digest(), 'a start from the snapshot is the same');
});

t.test('what a fork excludes is in no version either', async (t) => {
  const directory = temporaryDirectory(t);
  const log = openHost({ path: `${directory}/a.db` });
  t.teardown(() => log.close());
  const [route] = log.append([routeAdded(1)], operator);
  log.append([routeAdded(1)], operator);
  t.equal(log.entityVersion(route?.entity ?? ''), 2);
  log.append(
    [
      {
        type: 'peer.forked',
        entity: log.origin,
        data: { peer_id: log.origin, seq: 2, first: branch(1), second: branch(2) },
      },
    ],
    operator,
  );
  t.equal(log.entityVersion(route?.entity ?? ''), 1);
});
