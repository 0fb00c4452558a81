import t from 'tap';
import { transactionMessage } from '../../../events/chain.ts';
import type { AnyEvent, AnyNewEvent } from '../../../events/envelope.ts';
import { createMemoryLog } from '../../simulation/memory-log.ts';
import { seededRandom } from '../../simulation/virtual-clock.ts';
import { type Node, SYSTEM_CONTEXT, World } from '../../simulation/world.ts';

const three = (seed: number) => {
  const world = new World(seed);
  const [a, b, c] = world.cluster(3);
  if (!a || !b || !c) throw new Error('three hosts are needed');
  if (!world.until(() => world.converged(), 10_000)) throw new Error('the cluster does not settle');
  world.time.advance(5_000);
  return { world, a, b, c };
};

/** A second host with this one's key and its log as it is now. */
const twinOf = (world: World, node: Node, seed = 99) =>
  createMemoryLog(
    { origin: node.peerId, restored: node.log.before(node.log.head) },
    { signer: node.signer, clock: world.time.clock(), random: seededRandom(seed) },
  );
const rename = (node: Node, version: string): AnyNewEvent => ({
  type: 'peer.updated',
  entity: node.peerId,
  data: { version },
});
const give = (from: Node, events: readonly AnyEvent[], to: Node) =>
  to.log.receive(from.peerId, from.signer.publicKey, events);
const claims = (node: Node) => node.config().filter((event) => event.type === 'peer.forked');

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

t.test(
  'a fork inside a transaction ends the history before the transaction, for no part of one is signed',
  async (t) => {
    const { world, a, b, c } = three(13);
    c.kill();
    const first = twinOf(world, c, 1).append(
      [rename(c, 'one'), rename(c, 'two'), rename(c, 'three')],
      SYSTEM_CONTEXT,
    );
    const second = twinOf(world, c, 2);
    const [same] = first;
    if (same === undefined) throw new Error('no event');
    // The second history shares the first event of that transaction, signed by itself, and goes on otherwise.
    const signed = {
      ...same,
      signature: Buffer.from(c.signer.sign(transactionMessage(same.hash))).toString('base64'),
    };
    t.equal(second.receive(c.peerId, c.signer.publicKey, [signed]).kind, 'appended');
    const other = second.append([rename(c, 'other')], SYSTEM_CONTEXT);
    t.equal(give(c, first, a).kind, 'appended');
    t.equal(give(c, [signed, ...other], b).kind, 'appended');
    t.ok(world.until(() => world.converged(), 60_000));
    t.equal(a.views.peers.get(c.peerId)?.forked_at, same.seq, 'the start of the transaction');
  },
);

t.test('whoever was admitted past a fork and is known to members is admitted again', async (t) => {
  const { world, a, b } = three(14);
  // a's key is in two places; it admits d in one of its histories.
  const other = twinOf(world, a).append([rename(a, 'elsewhere')], SYSTEM_CONTEXT);
  const d = world.add();
  d.bootstrap();
  d.start();
  world.join(a, d);
  t.ok(world.until(() => world.converged(), 10_000));
  a.kill();
  const [fork] = other;
  if (fork === undefined) throw new Error('no event');
  b.append({
    type: 'peer.forked',
    entity: a.peerId,
    data: {
      peer_id: a.peerId,
      seq: fork.seq,
      first: { id: fork.id, hash: fork.hash, body: null, signature: null },
      second: { id: fork.id, hash: fork.hash, body: null, signature: null },
    },
  });
  t.ok(world.until(() => world.converged(), 20_000));
  const e = world.add();
  e.bootstrap();
  e.start();
  world.join(b, e);
  t.ok(world.until(() => world.converged(), 20_000));
  t.equal(e.views.peers.get(d.peerId)?.membership, 'member', 'a newcomer learns of it');
});

t.test('what was found is known again after a restart, and is said then', async (t) => {
  const { world, a, b, c } = three(15);
  c.kill();
  const one = twinOf(world, c, 1).append([rename(c, 'one')], SYSTEM_CONTEXT);
  const two = twinOf(world, c, 2).append([rename(c, 'two')], SYSTEM_CONTEXT);
  give(c, one, a);
  give(c, two, b);
  t.ok(
    world.until(
      () => a.local('origin.quarantined').length + b.local('origin.quarantined').length > 0,
      20_000,
    ),
  );
  const finder = a.local('origin.quarantined').length > 0 ? a : b;
  const before = claims(finder).length;
  finder.kill();
  world.time.advance(2_000);
  finder.start();
  t.ok(
    world.until(() => world.converged() && claims(finder).length > 0, 60_000),
    `${before} before`,
  );
  t.equal(finder.local('origin.quarantined').length, 1, 'recorded once');
});
