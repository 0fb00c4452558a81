import t from 'tap';
import { PULL_BYTES, PULL_EVENTS, PUSH_EVENTS } from '../../src/gossip/parameters.ts';
import { World } from './world.ts';

const long = process.env['ARCTIC_LONG'] === '1';
/** Events in the history that is missed. */
const MISSED = long ? 1_000_000 : 100_000;
/** Events of a transaction, as a large `compose apply` makes them. */
const TOGETHER = 100;
t.setTimeout(3_600_000);

t.test(
  `a host ${MISSED} events behind catches up in bounded pieces while changes still arrive within a second`,
  async (t) => {
    const world = new World(1, { light: true });
    const [a, b, c] = world.cluster(3);
    if (!a || !b || !c) throw new Error('three hosts are needed');
    t.ok(world.until(() => world.converged(), 10_000));
    b.kill();
    c.kill();
    for (let i = 0; i < MISSED; i += TOGETHER)
      a.append(
        ...Array.from({ length: TOGETHER }, (_, n) => ({
          type: 'peer.updated' as const,
          entity: a.peerId,
          data: { version: `w${i + n}` },
        })),
      );
    c.start();
    const head = a.log.versionVector()[a.peerId] ?? 0;
    const holds = (node: typeof b) => (node.log.versionVector()[a.peerId] ?? 0) >= head;
    t.ok(world.until(() => holds(c), 3_600_000));

    world.path = { loss: 0, minDelay: 20, maxDelay: 60 };
    const largest = { events: 0, bytes: 0, pushed: 0, vectors: 0 };
    let pulls = 0;
    if (world.light === undefined) throw new Error('letters are watched');
    world.light.watch = (value) => {
      if (value.kind === 'pull') pulls += 1;
      if (value.kind !== 'events' && value.kind !== 'push') return;
      const events = value.batches.flatMap((batch) => batch.events);
      if (value.kind === 'push') largest.pushed = Math.max(largest.pushed, events.length);
      largest.events = Math.max(largest.events, events.length);
      if (pulls % 50 === 0) largest.bytes = Math.max(largest.bytes, JSON.stringify(events).length);
    };
    b.start();
    world.time.advance(1_500);
    let changes = 0;
    let slowest = 0;
    while (!holds(b) && changes < 10_000) {
      changes += 1;
      const label = `new-${changes}`;
      // Of the host whose history is being fetched no change can be taken out of turn; of everyone else it can.
      c.write(label);
      const sentAt = world.time.now;
      while (b.views.peers.get(c.peerId)?.agent_version !== label && world.time.now - sentAt < 5_000)
        world.time.advance(10);
      slowest = Math.max(slowest, world.time.now - sentAt);
      world.time.advance(1_000);
    }
    t.ok(changes >= 3, `${changes} changes were made on the way`);
    t.ok(slowest <= 1_000, `the slowest arrived within ${slowest} ms`);
    t.ok(world.until(() => world.converged(), 60_000));
    t.ok(largest.events <= PULL_EVENTS + TOGETHER, `at most ${largest.events} events in a message`);
    t.ok(largest.bytes <= PULL_BYTES * 1.1, `at most ${largest.bytes} bytes`);
    t.ok(largest.pushed <= PUSH_EVENTS, `at most ${largest.pushed} pushed`);
    t.ok(pulls >= MISSED / (PULL_EVENTS + TOGETHER), 'it is the one behind that sets the pace');
    t.comment(
      `${pulls} pulls, ${changes} changes meanwhile, the slowest after ${slowest} ms of virtual time`,
    );
  },
);

t.test('messages that come twice, late and in any order do no harm', async (t) => {
  for (const seed of [1, 2, 3, 4, 5]) {
    const world = new World(seed);
    const nodes = world.cluster(4);
    t.ok(world.until(() => world.converged(), 10_000));
    // Every request comes again up to three times, after anything between nothing and ten seconds.
    world.path = { loss: 0, minDelay: 1, maxDelay: 900 };
    let echoes = 0;
    world.tap = (options, from, to) => {
      for (let copy = 0; copy < 3; copy += 1)
        world.time.after(world.random.fraction() * 10_000, () => {
          echoes += 1;
          to.machine?.handle({
            method: 'POST',
            path: options.path,
            headers: {},
            body: options.body,
            remoteAddress: from.address,
          });
        });
      return options.body;
    };
    for (let i = 0; i < 40; i += 1) {
      nodes[i % nodes.length]?.write(`w${i}`);
      world.time.advance(world.random.fraction() * 500);
    }
    t.ok(world.until(() => world.converged(), 60_000));
    t.ok(echoes > 200);
    for (const node of nodes) {
      const ids = node.config().map((event) => event.id);
      t.equal(new Set(ids).size, ids.length, 'no event twice');
      t.equal(node.local('origin.quarantined').length, 0);
      const labels = new Set(
        node.config().flatMap((event) => (event.type === 'peer.updated' ? [event.data.version] : [])),
      );
      t.equal([...labels].filter((label) => label?.startsWith('w')).length, 40, 'none lost');
    }
  }
});
