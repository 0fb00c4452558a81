import t from 'tap';
import type { PeerId } from '../../../events/brand.ts';
import { type Node, World } from '../../simulation/world.ts';

t.setTimeout(300_000);

const remove = (by: Node, peer: PeerId): void => {
  by.append({
    type: 'peer.removed',
    entity: peer,
    data: { peer_id: peer, last_seq: by.log.versionVector()[peer] ?? 0 },
  });
};

const cluster = (count: number, seed: number) => {
  const world = new World(seed);
  const nodes = world.cluster(count);
  world.until(() => world.converged(), 30_000);
  return { world, nodes };
};

const only = (world: World, nodes: readonly Node[]) => () => {
  const views = new Set(nodes.map((node) => node.digest()));
  const vectors = new Set(
    nodes.map((node) => JSON.stringify(Object.entries(node.log.versionVector()).sort())),
  );
  return world.time.now >= 0 && views.size === 1 && vectors.size === 1;
};

t.test('what a removed peer signed before its removal stands on every member', async (t) => {
  for (const seed of [1, 2, 3, 4, 5]) {
    const { world, nodes } = cluster(4, seed);
    const [a, b, c, d] = nodes;
    if (!a || !b || !c || !d) throw new Error('four hosts are needed');
    // c reaches b and d only; a, which removes it, misses what it writes.
    world.groups = (node) => (node === a ? 0 : 1);
    for (const label of ['one', 'two', 'three']) c.write(label);
    world.time.advance(3_000);
    remove(a, c.peerId);
    const missed = a.log.versionVector()[c.peerId] ?? 0;
    world.groups = undefined;
    t.ok(world.until(only(world, [a, b, d]), 30_000), 'the members agree');
    t.equal(a.log.versionVector()[c.peerId], missed + 3, 'with all that had been received');
    t.equal(a.views.peers.get(c.peerId)?.agent_version, 'three');
    t.equal(a.views.peers.get(c.peerId)?.membership, 'removed');
    c.write('too late');
    world.time.advance(60_000);
    t.equal(b.log.versionVector()[c.peerId], missed + 3, 'later ones are refused');
    const removals = b.config().filter((event) => event.type === 'peer.removed');
    t.ok(removals.length <= 3, `${removals.length} removals`);
    const heads = nodes.map((node) => node.log.head);
    world.time.advance(120_000);
    t.same(
      nodes.map((node) => node.log.head),
      heads,
      'and it is quiet',
    );
  }
});

t.test('two that remove each other in a partition are both out, and the rest agrees', async (t) => {
  for (const seed of [11, 12, 13]) {
    const { world, nodes } = cluster(5, seed);
    const [a, b, c, d, e] = nodes;
    if (!a || !b || !c || !d || !e) throw new Error('five hosts are needed');
    world.groups = (node) => (node === a || node === d ? 0 : 1);
    a.write('a before');
    c.write('c before');
    remove(a, c.peerId);
    remove(c, a.peerId);
    world.time.advance(5_000);
    world.groups = undefined;
    t.ok(world.until(only(world, [b, d, e]), 120_000), 'the others agree');
    for (const node of [b, d, e])
      for (const gone of [a, c]) t.equal(node.views.peers.get(gone.peerId)?.membership, 'removed');
  }
});

t.test('an admission undoes a removal with everything that only completed it', async (t) => {
  const { world, nodes } = cluster(3, 21);
  const [a, b, c] = nodes;
  if (!a || !b || !c) throw new Error('three hosts are needed');
  world.groups = (node) => (node === a ? 0 : 1);
  c.write('unseen by a');
  world.time.advance(2_000);
  remove(a, c.peerId);
  const removal = a.views.peers.get(c.peerId)?.departures ?? [];
  const admitted = a.views.peers.get(c.peerId);
  if (admitted === undefined) throw new Error('c is not known');
  // The operator thinks better of it before the others have said what they hold.
  a.append({
    type: 'peer.admitted',
    entity: c.peerId,
    data: {
      peer_id: c.peerId,
      public_key: admitted.public_key,
      name: admitted.name,
      address: admitted.address,
      endpoints: [...admitted.endpoints],
      readmits: [...removal],
    },
  });
  b.append({
    type: 'peer.removed',
    entity: c.peerId,
    data: { peer_id: c.peerId, last_seq: b.log.versionVector()[c.peerId] ?? 0, extends: [...removal] },
  });
  world.groups = undefined;
  t.ok(world.until(() => world.converged(), 60_000));
  t.equal(b.views.peers.get(c.peerId)?.membership, 'member');
});
