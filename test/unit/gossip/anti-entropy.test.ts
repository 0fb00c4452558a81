import t from 'tap';
import type { AnyEvent } from '../../../events/envelope.ts';
import { createMemoryLog } from '../../simulation/memory-log.ts';
import { seededRandom } from '../../simulation/virtual-clock.ts';
import { SYSTEM_CONTEXT, World } from '../../simulation/world.ts';

const two = (seed = 1) => {
  const world = new World(seed);
  const [a, b] = world.cluster(2);
  if (!a || !b) throw new Error('two hosts are needed');
  world.time.advance(2_000);
  return { world, a, b };
};

t.test('a change is pushed at once, not with the next heartbeat', async (t) => {
  const world = new World(1);
  const nodes = world.cluster(5, { heartbeat: 30_000 });
  world.until(() => world.converged(), 60_000);
  world.time.advance(10);
  nodes[3]?.write('now');
  world.time.advance(100);
  t.ok(world.converged());
});

t.test('a peer far behind pulls range by range while new changes still arrive', async (t) => {
  const world = new World(1);
  const [a, b, c] = world.cluster(3);
  if (!a || !b || !c) throw new Error('three hosts are needed');
  t.ok(world.until(() => world.converged(), 10_000));
  b.kill();
  for (let i = 0; i < 3_000; i += 1) a.write(`w${i}`);
  const head = a.log.versionVector()[a.peerId];
  t.ok(world.until(() => c.log.versionVector()[a.peerId] === head, 20_000));
  world.path = { loss: 0, minDelay: 200, maxDelay: 300 };
  let largest = 0;
  world.tap = (options) => {
    largest = Math.max(largest, options.body.length);
    return options.body;
  };
  b.start();
  world.time.advance(2_000);
  c.write('meanwhile');
  world.time.advance(1_000);
  t.match(b.views.peers.get(c.peerId)?.agent_version, 'meanwhile', 'within a second');
  t.not(b.log.versionVector()[a.peerId], head, 'still catching up');
  t.ok(world.until(() => world.converged(), 20_000));
  t.ok(largest < 200_000, `largest request ${largest} bytes`);
});

t.test('a transaction larger than a range travels whole', async (t) => {
  const { world, a, b } = two();
  b.kill();
  a.append(
    ...Array.from({ length: 1_500 }, (_, i) => ({
      type: 'peer.updated' as const,
      entity: a.peerId,
      data: { version: `t${i}` },
    })),
  );
  b.start();
  t.ok(world.until(() => world.converged(), 20_000));
});

t.test('two clusters merge: union of both, under the older id, known to everybody', async (t) => {
  const world = new World(9);
  const nodes = Array.from({ length: 4 }, () => world.add());
  for (const node of nodes) {
    node.bootstrap();
    node.start();
  }
  const [a, b, c, d] = nodes;
  if (!a || !b || !c || !d) throw new Error('four hosts are needed');
  world.join(a, b);
  world.join(c, d);
  b.write('in-the-first');
  d.write('in-the-second');
  world.join(d, b);
  t.ok(world.until(() => world.converged(), 10_000));
  t.ok(nodes.every((node) => node.views.cluster().cluster_id === a.views.cluster().cluster_id));
  world.time.advance(10_000);
  for (const x of nodes)
    for (const y of nodes) if (x !== y) t.equal(x.running.observed(y.peerId).state, 'active');
});

t.test('two events under one number: caught, kept as evidence, the origin closed', async (t) => {
  const world = new World(11);
  const [a, b, c] = world.cluster(3);
  if (!a || !b || !c) throw new Error('three hosts are needed');
  t.ok(world.until(() => world.converged(), 10_000));
  world.time.advance(5_000);
  c.kill();
  // A second host with c's key goes on from the same log, elsewhere.
  const twin = createMemoryLog(
    { origin: c.peerId, restored: c.log.events },
    { signer: c.signer, clock: world.time.clock(), random: seededRandom(99) },
  );
  const forged = twin.append(
    [{ type: 'peer.updated', entity: c.peerId, data: { version: 'second' } }],
    SYSTEM_CONTEXT,
  );
  const first = c.log.append(
    [{ type: 'peer.updated', entity: c.peerId, data: { version: 'first' } }],
    SYSTEM_CONTEXT,
  );
  const give = (events: readonly AnyEvent[], to: typeof a) =>
    to.log.receive(c.peerId, c.signer.publicKey, events);
  t.equal(give(first, a).kind, 'appended');
  t.equal(give(forged, b).kind, 'appended');
  t.ok(
    world.until(
      () => a.local('origin.quarantined').length > 0 && b.local('origin.quarantined').length > 0,
      20_000,
    ),
  );
  t.match(a.local('origin.quarantined'), [
    { data: { origin: c.peerId, first: first[0]?.id, second: forged[0]?.id } },
  ]);
  const evidence = JSON.parse(a.log.meta.get(`gossip.equivocation.${c.peerId}`) ?? '{}');
  t.equal(evidence.held.id, first[0]?.id);
  t.equal(evidence.offered.id, forged[0]?.id);
  const later = twin.append(
    [{ type: 'peer.updated', entity: c.peerId, data: { version: 'third' } }],
    SYSTEM_CONTEXT,
  );
  t.equal(later[0]?.seq, (forged[0]?.seq ?? 0) + 1);
  world.time.advance(60_000);
  t.equal(a.local('origin.quarantined').length, 1, 'said once');
  a.write('the-others-go-on');
  world.time.advance(1_000);
  t.ok(
    b.config().some((event) => event.type === 'peer.updated' && event.data.version === 'the-others-go-on'),
  );
});

t.test(
  'a fork a thousand events deep is found where it is, said once, and both sides agree again',
  async (t) => {
    const world = new World(12);
    const [a, b, c] = world.cluster(3);
    if (!a || !b || !c) throw new Error('three hosts are needed');
    t.ok(world.until(() => world.converged(), 10_000));
    c.kill();
    const fork = (c.log.versionVector()[c.peerId] ?? 0) + 1;
    for (const [host, label, count] of [
      [a, 'one', 1_200],
      [b, 'two', 1_700],
    ] as const) {
      const twin = createMemoryLog(
        { origin: c.peerId, restored: c.log.before(c.log.head) },
        { signer: c.signer, clock: world.time.clock(), random: seededRandom(count) },
      );
      for (let i = 0; i < count; i += 4)
        twin.append(
          Array.from({ length: 4 }, (_, n) => ({
            type: 'peer.updated' as const,
            entity: c.peerId,
            data: { version: `${label}-${i + n}` },
          })),
          SYSTEM_CONTEXT,
        );
      t.equal(
        host.log.receive(c.peerId, c.signer.publicKey, twin.range(c.peerId, fork, 10_000)).kind,
        'appended',
      );
    }
    t.ok(world.until(() => world.converged(), 60_000));
    t.equal(a.views.peers.get(c.peerId)?.forked_at, fork);
    t.equal(a.views.peers.get(c.peerId)?.agent_version, 'v1.4.0', 'neither history counts');
    t.equal(a.digest(), b.digest());
    t.equal(a.config().filter((event) => event.type === 'peer.forked').length, 1);
    c.start();
    world.time.advance(5_000);
    t.match(c.running.holdReason(), /signed two histories/, 'the origin itself may not write any more');
  },
);

t.test('in a large cluster a change reaches everybody by fan-out and relays alone', async (t) => {
  const world = new World(2);
  const nodes = world.cluster(12, { heartbeat: 60_000, pushAllLimit: 4 });
  t.ok(world.until(() => world.converged(), 300_000));
  world.time.advance(5_000);
  for (const [index, node] of nodes.entries()) {
    const requests = world.requests;
    node.write(`wide-${index}`);
    t.ok(
      world.until(() => world.converged(), 1_000),
      `from host ${index}, in ${world.requests - requests} requests`,
    );
  }
});
