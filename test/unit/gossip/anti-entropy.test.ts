import t from 'tap';
import { World } from '../../simulation/world.ts';

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
