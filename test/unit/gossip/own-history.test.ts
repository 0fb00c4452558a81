import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import type { PeerId } from '../../../events/brand.ts';
import { createHistoryMark } from '../../../src/gossip/history-mark.ts';
import { type Node, World } from '../../simulation/world.ts';

const cluster = (count: number, seed = 1) => {
  const world = new World(seed);
  const nodes = world.cluster(count);
  if (!world.until(() => world.converged(), 30_000)) throw new Error('the cluster does not settle');
  const [a, b] = nodes;
  if (!a || !b) throw new Error('two hosts are needed');
  return { world, nodes, a, b };
};
const forks = (...nodes: readonly Node[]): number =>
  nodes.reduce((sum, node) => sum + node.local('origin.quarantined').length, 0);
const allowed = (node: Node) => () => node.running.holdReason() === undefined;

t.test(
  'a restored copy is recognised by the mark beside it, and takes its events back before it writes',
  async (t) => {
    const { world, a, b } = cluster(2);
    const backup = b.log.head;
    for (let i = 0; i < 20; i += 1) b.write(`later-${i}`);
    t.ok(world.until(() => world.converged(), 10_000));
    world.groups = (node) => node.index;
    b.restore(backup);
    b.start();
    world.time.advance(600_000);
    t.match(
      b.running.holdReason(),
      /20 of its own events are missing.*still to answer: host-0/,
      'not even after ten minutes alone',
    );
    world.groups = undefined;
    t.ok(world.until(allowed(b), 60_000));
    b.write('after');
    t.ok(world.until(() => world.converged(), 10_000));
    t.equal(forks(a, b), 0);
    t.ok(b.config().some((event) => event.type === 'peer.updated' && event.data.version === 'later-19'));
  },
);

t.test('without a mark (the whole directory was restored) the peers are asked first', async (t) => {
  const { world, a, b } = cluster(2);
  const backup = b.log.head;
  const marked = b.marked;
  for (let i = 0; i < 20; i += 1) b.write(`later-${i}`);
  t.ok(world.until(() => world.converged(), 10_000));
  b.restore(backup);
  b.marked = marked;
  b.start();
  t.match(b.running.holdReason(), /has just started/);
  t.ok(world.until(allowed(b), 10_000));
  b.write('after');
  t.ok(world.until(() => world.converged(), 10_000));
  t.equal(forks(a, b), 0);
});

t.test('a copy that knows no peer any more writes nothing until one is added again', async (t) => {
  const { world, a, b } = cluster(2);
  b.write('known-to-a');
  t.ok(world.until(() => world.converged(), 10_000));
  b.restore(3);
  b.start();
  t.equal(b.views.peers.get(a.peerId), undefined);
  world.time.advance(600_000);
  t.match(b.running.holdReason(), new RegExp(`arctic peers add ${a.address}`));
  t.equal(world.tryJoin(b, a.address), a.peerId);
  t.ok(world.until(() => world.converged() && allowed(b)(), 10_000));
  t.equal(forks(a, b), 0);
});

t.test(
  'what nobody holds is given up once every peer was asked; what a lone host had, at once',
  async (t) => {
    const { world, a, b } = cluster(2);
    const backup = b.log.head;
    world.groups = (node) => node.index;
    b.write('seen by nobody');
    b.kill();
    world.groups = undefined;
    b.restore(backup);
    b.start();
    t.match(b.running.holdReason(), /1 of its own events are missing/);
    t.ok(world.until(allowed(b), 20_000));
    t.ok(b.reports.some((line) => /events of this host are lost/.test(line)));
    b.write('in its place');
    t.ok(world.until(() => world.converged(), 10_000));
    t.equal(forks(a, b), 0);

    const alone = new World(2).add();
    alone.bootstrap();
    alone.start();
    const early = alone.log.head;
    alone.write('alone');
    alone.restore(early);
    alone.start();
    t.equal(alone.running.holdReason(), undefined);
  },
);

t.test(
  'the mark file: a number rewritten in place, members rewritten whole, others not believed',
  async (t) => {
    const directory = mkdtempSync(join(tmpdir(), 'arctic-mark-'));
    t.teardown(() => rmSync(directory, { recursive: true, force: true }));
    const path = join(directory, 'history.mark');
    const peerId = `peer_${'0'.repeat(25)}1` as PeerId;
    const other = `peer_${'0'.repeat(25)}2` as PeerId;
    const reports: string[] = [];
    const open = (as = peerId) =>
      createHistoryMark(path, { peerId: as, report: (_level, message) => reports.push(message) });
    const mark = open();
    t.equal(mark.read(), undefined);
    const peers = [{ id: other, address: '10.0.0.2:8080' }];
    mark.write({ seq: 5, peers });
    t.equal(statSync(path).mode & 0o777, 0o600);
    const inode = statSync(path).ino;
    mark.write({ seq: 123_456, peers });
    t.equal(statSync(path).ino, inode, 'in place');
    t.same(open().read(), { seq: 123_456, peers });
    t.equal(open(other).read(), undefined, 'the mark of another identity');
    for (const damaged of ['', 'arctic-history-v1 x\n{}', readFileSync(path, 'utf8').slice(0, 40)]) {
      writeFileSync(path, damaged);
      t.equal(open().read(), undefined, JSON.stringify(damaged));
    }
    const blocked = createHistoryMark(join(directory, 'missing', 'history.mark'), {
      peerId,
      report: (_level, message) => reports.push(message),
    });
    blocked.write({ seq: 1, peers });
    blocked.write({ seq: 2, peers });
    t.equal(reports.length, 1, 'said once');
  },
);
