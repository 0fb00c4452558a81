import { type Node, World } from './world.ts';

export interface Outcome {
  readonly converged: boolean;
  readonly healedInMs: number;
  readonly lost: readonly string[];
  readonly quarantines: number;
  readonly writes: number;
  readonly story: readonly string[];
  /** Requests that came to no recorded end. */
  readonly unexplained: number;
  /** Chains with a hole, a wrong link or an event twice, in words. */
  readonly broken: readonly string[];
}

/** Every chain a host holds must be whole: numbered from 1 without a hole, each event linked to the one before, none twice. */
function brokenChains(node: Node): readonly string[] {
  const heads = new Map<string, { readonly seq: number; readonly hash: string }>();
  const seen = new Set<string>();
  const broken: string[] = [];
  for (const event of node.log.events) {
    const chain = `${event.origin}/${event.stream}`;
    const before = heads.get(chain);
    const linked = before === undefined ? event.seq === 1 : event.prev_hash === before.hash;
    if (event.seq !== (before?.seq ?? 0) + 1 || !linked)
      broken.push(`host ${node.index}: ${chain} ${event.seq} does not follow ${before?.seq ?? 0}`);
    if (seen.has(event.id)) broken.push(`host ${node.index}: ${event.id} twice`);
    seen.add(event.id);
    heads.set(chain, event);
  }
  return broken;
}

export interface ScenarioOptions {
  /** A cluster of two up to this many, put together one by one; some more may join. */
  readonly mostHosts?: number;
  /** Exactly this many that have come together already. */
  readonly hosts?: number;
  readonly light?: boolean;
}

const LOSSES = [0, 0, 0.05, 0.3];

/**
 * One life of a small cluster under everything that goes wrong, then peace. What must hold afterwards: all hosts hold the same
 * events and believe the same, nothing written is lost, nobody is quarantined.
 */
export function runScenario(seed: number, options: ScenarioOptions = {}): Outcome {
  const { mostHosts = 5, hosts } = options;
  const world = new World(seed, options);
  const { random } = world;
  const pick = <T>(items: readonly T[]): T => {
    const item = items[Math.floor(random.fraction() * items.length)];
    if (item === undefined) throw new Error('nothing to pick from');
    return item;
  };
  const heartbeat = pick([1_000, 2_000, 5_000]);
  const nodes: Node[] =
    hosts === undefined
      ? world.cluster(2 + Math.floor(random.fraction() * (mostHosts - 1)), { heartbeat })
      : world.founded(hosts, { heartbeat });
  const written: string[] = [];
  const story: string[] = [];
  const tell = (text: string) => story.push(`${Math.round(world.time.now)} ${text}`);
  const running = () => nodes.filter((node) => node.machine !== undefined);

  const write = (node: Node): void => {
    if (node.machine?.holdReason() !== undefined) return;
    const label = `w${written.length}`;
    node.write(label);
    written.push(label);
    tell(`host ${node.index} writes ${label}`);
  };
  const peaceful = () =>
    world.groups === undefined &&
    world.path.loss === 0 &&
    world.blocked.size === 0 &&
    nodes.every((node) => node.slowness === 0) &&
    running().length === nodes.length;
  const enter = (by: Node): void => {
    const node = world.add({ heartbeat });
    node.bootstrap();
    node.start();
    const result = world.tryJoin(by, node.address);
    if (result instanceof Error) {
      // The other side may know of a join that this side gave up: the operator removes what it left behind.
      node.kill();
      node.gone = true;
      if (by.views.peers.get(node.peerId)?.membership === 'member') expel(by, node);
      tell(`host ${node.index} cannot join by host ${by.index}: ${result.message}`);
      return;
    }
    nodes.push(node);
    tell(`host ${node.index} joins by host ${by.index}`);
  };
  const expel = (by: Node, node: Node): void => {
    by.append({
      type: 'peer.removed',
      entity: node.peerId,
      data: { peer_id: node.peerId, last_seq: by.log.versionVector()[node.peerId] ?? 0 },
    });
  };
  /** All that a host wrote and nobody else holds goes with its disk. */
  const withoutTraceOf = (node: Node): void => {
    const known = new Set(
      nodes.filter((one) => one !== node).flatMap((one) => one.config().map((event) => event.id)),
    );
    for (const event of node.config()) {
      if (event.type !== 'peer.updated' || known.has(event.id)) continue;
      const at = written.indexOf(event.data.version ?? '');
      if (at >= 0) written[at] = '';
    }
  };
  const depart = (node: Node): void => {
    node.kill();
    node.gone = true;
    withoutTraceOf(node);
    nodes.splice(nodes.indexOf(node), 1);
  };

  // A step of many hosts is much more life than one of a few.
  const steps = hosts === undefined ? 15 + Math.floor(random.fraction() * 26) : 10;
  for (let step = 0; step < steps; step += 1) {
    const dice = random.fraction();
    if (dice < 0.55) {
      if (running().length > 0) write(pick(running()));
    } else if (dice < 0.65) {
      const border = Math.floor(random.fraction() * nodes.length);
      world.groups = random.fraction() < 0.5 ? undefined : (node) => (node.index <= border ? 0 : 1);
      tell(world.groups === undefined ? 'one network' : `partition after host ${border}`);
    } else if (dice < 0.72) {
      world.path = { loss: pick(LOSSES), minDelay: 1, maxDelay: pick([5, 50, 400]) };
      tell(`loss ${world.path.loss}, delay up to ${world.path.maxDelay} ms`);
    } else if (dice < 0.82) {
      const node = pick(nodes);
      if (node.machine === undefined) node.start();
      else node.kill();
      tell(`host ${node.index} ${node.machine === undefined ? 'dies' : 'starts'}`);
    } else if (dice < 0.87) {
      const a = pick(nodes);
      const b = pick(nodes);
      const pair = `${a.index}>${b.index}`;
      if (!world.blocked.delete(pair)) world.blocked.add(pair);
      tell(`${pair} ${world.blocked.has(pair) ? 'blocked' : 'open'}`);
    } else if (dice < 0.9) {
      pick(nodes).skew = Math.floor((random.fraction() - 0.5) * 40_000);
    } else if (dice < 0.93) {
      const node = pick(nodes);
      node.slowness = node.slowness === 0 ? pick([200, 1_200, 3_000]) : 0;
      tell(`host ${node.index} ${node.slowness === 0 ? 'is quick again' : `is ${node.slowness} ms slow`}`);
    } else if (dice < 0.95) {
      const by = running().find((node) => node.machine?.holdReason() === undefined);
      if (by !== undefined && nodes.length < (hosts ?? mostHosts) + 2) enter(by);
    } else if (dice < 0.97) {
      if (nodes.length > 2 && peaceful() && world.until(() => world.converged(), 20_000)) {
        const node = pick(nodes);
        const lost = random.fraction() < 0.5;
        if (!lost) node.append({ type: 'peer.left', entity: node.peerId, data: { peer_id: node.peerId } });
        world.time.advance(lost ? 0 : 500);
        depart(node);
        tell(`host ${node.index} ${lost ? 'loses its disk and is removed' : 'leaves'}`);
        if (lost) expel(pick(nodes), node);
      }
    } else if (peaceful() && world.until(() => world.converged(), 20_000)) {
      const node = pick(nodes);
      const position = node.log.head - Math.floor(random.fraction() * pick([10, node.log.head]));
      if (position > 4) {
        node.restore(position);
        node.start();
        tell(`host ${node.index} comes back from a backup of position ${position}`);
        // Somebody who cannot wait: what the host may not do yet must be refused, or its history forks.
        for (const pause of [0, 1, 10, 30, 100, 400, 2_000, 20_000]) {
          world.time.advance(pause);
          write(node);
        }
        // A copy older than every member it could ask: the operator does what the refusal says.
        if (/peers add/.test(node.running.holdReason() ?? '')) {
          const other = pick(nodes.filter((one) => one !== node));
          const result = world.tryJoin(node, other.address);
          tell(
            `host ${node.index} adds host ${other.index} again: ${result instanceof Error ? result.message : 'done'}`,
          );
        }
      }
    }
    world.time.advance(random.fraction() * 4_000);
  }

  tell('peace');
  world.groups = undefined;
  world.blocked.clear();
  world.path = { loss: 0, minDelay: 1, maxDelay: 20 };
  for (const node of nodes) {
    node.slowness = 0;
    if (node.machine === undefined) node.start();
  }
  const before = world.time.now;
  const converged = world.until(() => world.converged(), 120_000);
  const healedInMs = world.time.now - before;
  const everything = new Set(
    nodes.flatMap((node) =>
      node.config().flatMap((event) => (event.type === 'peer.updated' ? [event.data.version ?? ''] : [])),
    ),
  );
  return {
    converged,
    healedInMs,
    lost: written.filter((label) => label !== '' && !everything.has(label)),
    quarantines: nodes.reduce((sum, node) => sum + node.local('origin.quarantined').length, 0),
    writes: written.length,
    broken: nodes.flatMap(brokenChains),
    story,
    unexplained: world.requests - world.underWay - Object.values(world.fates).reduce((sum, n) => sum + n, 0),
  };
}
