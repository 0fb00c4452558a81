/** Whether the ports of the data planes are open is found at the join, said exactly, and tried again. */
import t, { type Test } from 'tap';
import type { PeerId } from '../../../events/brand.ts';
import type { DataPlane, DataPort } from '../../../src/gossip/machine/data-plane.ts';
import { portsReason } from '../../../src/health/closed-ports.ts';
import { type Node, World } from '../../simulation/world.ts';

const CARRIER: DataPort = { protocol: 'tcp', port: 61_000 };
const KCP: DataPort = { protocol: 'udp', port: 61_000 };
const TUNNEL: DataPort = { protocol: 'udp', port: 51_840 };

/** Networks between hosts whose ports may be closed, by `from > to > protocol port`. */
class Network {
  readonly closed = new Set<string>();
  readonly #heard = new Map<string, Set<string>>();
  tries = 0;
  underWay = 0;

  readonly #way = (from: PeerId, to: PeerId, { protocol, port }: DataPort) =>
    `${from} > ${to} > ${protocol} ${port}`;

  close(from: Node, to: Node, port: DataPort): void {
    this.closed.add(this.#way(from.peerId, to.peerId, port));
  }

  planeOf(local: PeerId, tellsAfter = () => true): DataPlane {
    return {
      tunnel: TUNNEL,
      try: (peer, _host, token) => {
        this.tries += 1;
        this.underWay += 1;
        const open = (port: DataPort) => !this.closed.has(this.#way(local, peer, port));
        if (open(TUNNEL)) this.#heard.set(token, (this.#heard.get(token) ?? new Set()).add(peer));
        let ended = false;
        return {
          closed: () => (tellsAfter() ? [CARRIER, KCP].filter((port) => !open(port)) : undefined),
          heard: () => !ended && (this.#heard.get(token)?.has(local) ?? false),
          end: () => {
            if (!ended) this.underWay -= 1;
            ended = true;
          },
        };
      },
    };
  }
}

function hosts(planes: readonly boolean[]) {
  const world = new World(1);
  const network = new Network();
  const [a, b] = planes.map((has) => {
    const node = world.add();
    if (has) node.dataPlane = network.planeOf(node.peerId);
    return node;
  });
  if (a === undefined || b === undefined) throw new Error('two hosts are needed');
  for (const node of [a, b]) {
    node.bootstrap();
    node.start();
  }
  return { world, network, a, b };
}

const reason = (of: Node, peer: Node) => portsReason(of.running.observed(peer.peerId).closed_ports);
const says = (t: Test, of: Node, peer: Node, text: string | null) =>
  t.equal(reason(of, peer), text === null ? null : `ports are closed: ${text}`);

t.test('all is open: nothing is said, and nothing is left behind', async (t) => {
  const { world, network, a, b } = hosts([true, true]);
  const before = world.time.now;
  world.join(a, b);
  t.ok(world.time.now - before < 2_000, 'a join does not take longer for it');
  says(t, a, b, null);
  world.time.advance(60_000);
  says(t, b, a, null);
  t.equal(network.tries, 2, 'once from each side');
  t.equal(network.underWay, 0);
});

t.test('what is closed is said on both sides, with its direction, until it is open', async (t) => {
  const { world, network, a, b } = hosts([true, true]);
  network.close(a, b, KCP);
  network.close(b, a, CARRIER);
  network.close(b, a, TUNNEL);
  world.join(a, b);
  says(
    t,
    a,
    b,
    'UDP port 61000 of the peer (10.0.0.1) for what this host sends; ' +
      'TCP port 61000 and UDP port 51840 of this host (10.0.0.0) for what the peer sends',
  );
  world.time.advance(1_000);
  says(
    t,
    b,
    a,
    'TCP port 61000 and UDP port 51840 of the peer (10.0.0.0) for what this host sends; ' +
      'UDP port 61000 of this host (10.0.0.1) for what the peer sends',
  );
  t.equal(a.running.observed(b.peerId).state, 'active', 'a member all the same');
  t.ok(a.reports.some((line) => line.startsWith('ports that the traffic needs are closed')));
  network.closed.clear();
  world.time.advance(10_000);
  says(t, a, b, null);
  says(t, b, a, null);
  const { tries } = network;
  world.time.advance(600_000);
  t.equal(network.tries, tries, 'what is open is not tried again');
  t.equal(network.underWay, 0);
});

t.test('the other side goes on when the one that found it starts anew', async (t) => {
  const { world, network, a, b } = hosts([true, true]);
  network.close(a, b, TUNNEL);
  world.join(a, b);
  world.time.advance(1_000);
  a.kill();
  a.start();
  world.time.advance(1_000);
  network.closed.clear();
  world.time.advance(30_000);
  says(t, b, a, null);
});

t.test('an agent that knows nothing of it: only the own way is tried', async (t) => {
  const { world, network, a, b } = hosts([true, false]);
  network.close(a, b, CARRIER);
  network.close(a, b, TUNNEL);
  world.join(a, b);
  says(t, a, b, 'TCP port 61000 of the peer (10.0.0.1) for what this host sends');
  says(t, b, a, null);
  t.equal(network.underWay, 0);
});

t.test('no answer in time counts as closed, and a host that stops lets go', async (t) => {
  const { world, network, a, b } = hosts([true, true]);
  b.kill();
  b.dataPlane = network.planeOf(b.peerId, () => false);
  b.start();
  world.join(a, b);
  t.ok(network.underWay <= 1, 'at most the side that was asked still listens');
  a.kill();
  world.time.advance(30_000);
  b.kill();
  t.equal(network.underWay, 0);
});
