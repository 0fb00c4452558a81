import t from 'tap';
import { timeOf, ZERO_HLC } from '../../../events/hlc.ts';
import { GOSSIP_PATH } from '../../../src/gossip/messages.ts';
import { SKEW_LIMIT } from '../../../src/gossip/parameters.ts';
import { World } from '../../simulation/world.ts';

const HOUR = 3_600_000;

const three = (seed = 1) => {
  const world = new World(seed);
  const [a, b, c] = world.cluster(3);
  if (!a || !b || !c) throw new Error('three hosts are needed');
  world.time.advance(5_000);
  return { world, a, b, c };
};

t.test('members that never met shake hands as soon as they hear of each other', async (t) => {
  const { a, b, c } = three();
  for (const [x, y] of [
    [b, c],
    [c, b],
    [a, c],
  ] as const)
    t.equal(x.running.observed(y.peerId).state, 'active');
  t.equal(b.local('peer.admitted').length, c.local('peer.admitted').length);
  t.equal(
    b.config().filter((event) => event.type === 'peer.admitted' && event.origin === c.peerId).length,
    1,
    'c admitted only the host that it joined through',
  );
});

t.test('an idle cluster appends nothing, and says little', async (t) => {
  const { world, a, b, c } = three();
  const before = [a, b, c].map((node) => node.log.head);
  const requests = world.requests;
  world.time.advance(600_000);
  t.same(
    [a, b, c].map((node) => node.log.head),
    before,
  );
  const perSecond = (world.requests - requests) / 600 / 3;
  t.ok(perSecond < 2.5, `${perSecond} requests a host and second at a heartbeat of one second`);
});

t.test(
  'silence becomes suspicion, suspicion unreachable; contact ends it; only transitions are events',
  async (t) => {
    const { world, a, b, c } = three();
    b.kill();
    world.time.advance(2_500);
    t.equal(a.running.observed(b.peerId).state, 'active', 'suspected, not yet given up');
    world.time.advance(27_500);
    t.match(a.running.observed(b.peerId), { state: 'unreachable', reason: 'connection refused' });
    world.time.advance(120_000);
    t.equal(a.local('peer.unreachable').length, 1);
    t.equal(c.local('peer.unreachable').length, 1);
    a.write('while-b-was-away');
    b.start();
    t.ok(
      world.until(() => world.converged(), 5_000),
      'the returned host catches up',
    );
    t.equal(a.running.observed(b.peerId).state, 'active');
    t.equal(a.local('peer.reachable').length, 1);
  },
);

t.test('a partition heals by itself', async (t) => {
  const { world, a, b, c } = three();
  world.groups = (node) => (node === a ? 0 : 1);
  world.time.advance(60_000);
  t.equal(a.running.observed(b.peerId).state, 'unreachable');
  t.equal(c.running.observed(b.peerId).state, 'active');
  a.write('left');
  b.write('right');
  world.time.advance(60_000);
  t.notOk(world.converged());
  world.groups = undefined;
  t.ok(world.until(() => world.converged(), 15_000));
});

t.test('a peer that others still reach is not given up: one broken path is no death', async (t) => {
  const { world, a, b } = three();
  world.blocked.add(`${a.index}>${b.index}`);
  world.blocked.add(`${b.index}>${a.index}`);
  world.time.advance(60_000);
  t.match(a.running.observed(b.peerId), {
    state: 'active',
    reason: /^answers other members but not this host/,
  });
  t.equal(a.local('peer.unreachable').length, 0);
  a.write('by-way-of-c');
  t.ok(
    world.until(() => world.converged(), 5_000),
    'events take the way round',
  );
});

t.test('a host that stops says so', async (t) => {
  const { world, a, b } = three();
  let told = false;
  b.running.farewell(() => {
    told = true;
  });
  world.time.advance(500);
  b.kill();
  t.ok(told);
  t.match(a.running.observed(b.peerId), { state: 'unreachable', reason: 'the peer announced that it stops' });
  t.equal(a.running.sessions.current(b.peerId), undefined, 'nothing more is sent under its sessions');
});

t.test('a restarted host shakes hands at once: no one waits for a time-out', async (t) => {
  const { world, a, b } = three();
  b.kill();
  b.start();
  a.write('right-after');
  t.ok(world.until(() => world.converged(), 1_500));
  t.equal(a.running.observed(b.peerId).state, 'active');
  t.equal(a.local('peer.unreachable').length, 0);
});

t.test('sessions are renewed hourly, make before break, with no event and no message lost', async (t) => {
  const world = new World(7);
  const [a, b] = world.cluster(2, { heartbeat: 5_000 });
  if (!a || !b) throw new Error('two hosts are needed');
  world.time.advance(5_000);
  const first = a.running.sessions.current(b.peerId)?.sessionId ?? '';
  const retired: string[] = [];
  a.running.sessions.onRetired((id, reason) => {
    t.equal(reason, 'renewed');
    retired.push(id);
  });
  const heads = [a.log.head, b.log.head];
  world.time.advance(HOUR + 5_000);
  const second = a.running.sessions.current(b.peerId)?.sessionId;
  t.not(second, first);
  t.equal(b.running.sessions.current(a.peerId)?.sessionId, second);
  t.ok(a.running.sessions.byId(first), 'the old one still opens what is under way');
  world.time.advance(90_000);
  t.notOk(a.running.sessions.byId(first));
  t.ok(retired.includes(first));
  t.same([a.log.head, b.log.head], heads);
  t.equal(a.running.observed(b.peerId).state, 'active');
  world.time.advance(3 * HOUR);
  t.same([a.log.head, b.log.head], heads);
  t.ok(a.running.sessions.size <= 4, 'nothing piles up');
});

t.test('both sides starting at once end with one preferred session, the same on both', async (t) => {
  const { world, a, b } = three();
  a.kill();
  b.kill();
  a.start();
  b.start();
  world.time.advance(5_000);
  t.equal(a.running.sessions.current(b.peerId)?.sessionId, b.running.sessions.current(a.peerId)?.sessionId);
});

t.test('clocks more than 60 s apart are reported on both sides, once', async (t) => {
  const world = new World(3);
  const [a, b] = world.cluster(2);
  if (!a || !b) throw new Error('two hosts are needed');
  t.equal(a.local('clock.skew_detected').length, 0);
  b.skew = 90_000;
  world.time.advance(60_000);
  t.match(a.local('clock.skew_detected'), [{ data: { peer_id: b.peerId } }]);
  t.match(b.local('clock.skew_detected'), [{ data: { peer_id: a.peerId } }]);
  const seen = a.running.observed(b.peerId).clock_skew_ms ?? 0;
  t.ok(seen > 85_000 && seen < 95_000, `${seen} ms`);
  t.match(
    b.running.holdReason(),
    /^its clock is 90 s ahead of that of /,
    'the one ahead should change nothing',
  );
  t.equal(a.running.holdReason(), undefined, 'the other may');
  t.equal(a.running.observed(b.peerId).changes_held_until, null);
  b.write('from-the-future');
  world.time.advance(10_000);
  t.notOk(world.converged(), 'held back');
  const until = Date.parse(a.running.observed(b.peerId).changes_held_until ?? '');
  // By the wall clock of the one that waits.
  const dated = timeOf(b.config().at(-1)?.hlc ?? ZERO_HLC);
  t.ok(Math.abs(until + SKEW_LIMIT - dated) < 2_000, `${until} for ${dated}`);
  b.skew = 0;
  world.time.advance(2_000);
  t.equal(b.running.holdReason(), undefined, 'its clock is set');
  t.ok(
    world.until(() => world.converged(), 120_000),
    'taken once its time has come',
  );
  t.equal(a.running.observed(b.peerId).changes_held_until, null);
});

t.test('a recorded gossip message does nothing a second time', async (t) => {
  const { world, a, b } = three();
  const recorded: Uint8Array[] = [];
  world.tap = (options, from, to) => {
    if (from === a && to === b && options.path === GOSSIP_PATH) recorded.push(options.body);
    return options.body;
  };
  a.write('once');
  world.time.advance(3_000);
  t.ok(recorded.length > 0);
  const seen = b.log.head;
  for (const body of recorded) {
    const send = (bytes: Uint8Array) =>
      b.running.handle({
        method: 'POST',
        path: GOSSIP_PATH,
        headers: {},
        body: bytes,
        remoteAddress: '10.6.6.6',
      }).status;
    t.equal(send(body), 403, 'replayed');
    for (const at of [20, 30, body.length - 1]) {
      const changed = Uint8Array.from(body);
      changed[at] = (changed[at] ?? 0) ^ 1;
      t.equal(send(changed), 403, 'tampered');
    }
    const other = Uint8Array.from(body);
    other[5] = (other[5] ?? 0) ^ 1;
    t.equal(send(other), 401, 'another session');
  }
  t.equal(b.log.head, seen);
});

t.test('an address update brings back a peer that had moved', async (t) => {
  const world = new World(5);
  const [a, b] = world.cluster(2);
  if (!a || !b) throw new Error('two hosts are needed');
  b.kill();
  world.time.advance(60_000);
  t.equal(a.running.observed(b.peerId).state, 'unreachable');
  Object.defineProperty(b, 'address', { value: '10.1.1.1:8080' });
  // Not started through its own contact: only the update tells where it is.
  world.blocked.add(`${b.index}>${a.index}`);
  b.start();
  world.blocked.clear();
  a.append({
    type: 'peer.updated',
    entity: b.peerId,
    data: { address: '10.1.1.1:8080', endpoints: ['http://10.1.1.1:8080'] },
  });
  world.time.advance(1_000);
  t.equal(a.running.observed(b.peerId).state, 'active');
});
