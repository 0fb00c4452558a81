import type { AnyEvent, AnyNewEvent } from '../../events/envelope.ts';
import { Fold } from '../../projections/fold.ts';
import { settled } from '../../projections/replay.ts';
import { createMemoryLog } from './memory-log.ts';
import { type Node, SYSTEM_CONTEXT, World } from './world.ts';

export interface ForkOutcome {
  /** The honest hosts hold the same and believe the same. */
  readonly agree: boolean;
  /** Each of them believes what a fold of its own log from the first event gives. */
  readonly sound: boolean;
  /** Changes of honest hosts that are not everywhere. */
  readonly lost: readonly string[];
  /** Forks announced by the honest hosts; 0 when no host ever met both histories. */
  readonly announced: number;
  /** The removed host is back under a new id, and its new changes reach everybody. */
  readonly healed: boolean;
  readonly story: readonly string[];
}

/**
 * One life of a cluster in which one host (or a second one with its key) signs two histories: put back to an older state, as a
 * cloned machine, or by handing different ones to different members, whole transactions among them. Then peace, removal of that host, and a join in its place.
 */
export function runForkScenario(seed: number, options: { readonly light?: boolean } = {}): ForkOutcome {
  const world = new World(seed, options);
  const { random } = world;
  const below = (limit: number): number => Math.floor(random.fraction() * limit);
  const pick = <T>(items: readonly T[]): T => {
    const item = items[below(items.length)];
    if (item === undefined) throw new Error('nothing to pick from');
    return item;
  };
  const story: string[] = [];
  const tell = (text: string) => story.push(`${Math.round(world.time.now)} ${text}`);
  const nodes = world.cluster(3 + below(3));
  world.until(() => world.converged(), 30_000);
  const liar = pick(nodes);
  const honest = nodes.filter((node) => node !== liar);
  const written: string[] = [];
  const label = (): string => `w${written.length}`;
  const change = (version: string): AnyNewEvent => ({
    type: 'peer.updated',
    entity: liar.peerId,
    data: { version },
  });
  const writeHonest = (): void => {
    const node = pick(honest);
    if (node.machine === undefined || node.machine.holdReason() !== undefined) return;
    written.push(label());
    node.write(written.at(-1) ?? '');
  };
  const divide = (): void => {
    const border = below(nodes.length + 1);
    world.groups = random.fraction() < 0.4 ? undefined : (node) => (node.index < border ? 0 : 1);
    tell(world.groups === undefined ? 'one network' : `partition before host ${border}`);
  };
  /** Hands a history to a member by itself, as if a connection had existed for a moment. */
  const hand = (events: readonly AnyEvent[], to: Node): void => {
    const outcome = to.log.receive(liar.peerId, liar.signer.publicKey, events);
    tell(`host ${to.index} is handed ${events.length} events: ${outcome.kind}`);
  };

  for (let step = 0; step < below(12); step += 1) {
    const dice = random.fraction();
    if (dice < 0.5) writeHonest();
    else if (dice < 0.75) liar.write(`l${step}`);
    else divide();
    world.time.advance(random.fraction() * 3_000);
  }
  let twin: Node | undefined;
  const way = random.fraction();
  if (way < 0.25) {
    // The machine is put back to an older state, mark and all, where it cannot ask anybody.
    const position = Math.max(4, liar.log.head - 1 - below(8));
    liar.restore(position);
    liar.marked = undefined;
    world.groups = (node) => (node === liar ? 1 : 0);
    liar.start();
    tell(`host ${liar.index} is put back to position ${position}`);
    world.time.advance(20_000);
    if (liar.running.holdReason() === undefined) liar.write('restored');
    world.groups = undefined;
  } else if (way < 0.6) {
    twin = world.add({ twinOf: liar });
    tell(`host ${liar.index} is cloned as host ${twin.index}`);
    if (twin.machine === undefined) twin.start();
  } else {
    // Up to three histories, each from another point of the liar's own, with transactions of several events.
    const branches = Array.from({ length: 2 + below(2) }, () => {
      const from = Math.max(3, liar.log.head - below(6));
      const last = liar.log.before(from).findLastIndex((event) => event.signature !== null);
      const log = createMemoryLog(
        { origin: liar.peerId, restored: liar.log.before(last + 1) },
        { signer: liar.signer, clock: world.time.clock(), random },
      );
      const rounds = 1 + below(4);
      for (let round = 0; round < rounds; round += 1)
        log.append(
          Array.from({ length: 1 + below(random.fraction() < 0.1 ? 700 : 3) }, (_, i) =>
            change(`f${seed}-${round}-${i}-${below(1_000)}`),
          ),
          SYSTEM_CONTEXT,
        );
      return log;
    });
    if (random.fraction() < 0.5) liar.kill();
    for (const node of honest) {
      if (random.fraction() < 0.2) continue;
      const branch = pick(branches);
      hand(branch.range(liar.peerId, (node.log.versionVector()[liar.peerId] ?? 0) + 1, 10_000), node);
    }
  }
  for (let step = 0; step < 25; step += 1) {
    const dice = random.fraction();
    if (dice < 0.3) writeHonest();
    else if (dice < 0.5)
      for (const one of [liar, twin]) if (one?.machine !== undefined) one.write(`l${step}`);
    if (dice >= 0.5 && dice < 0.6) divide();
    if (dice >= 0.6 && dice < 0.7)
      world.path = { loss: pick([0, 0.05, 0.3]), minDelay: 1, maxDelay: pick([5, 100]) };
    if (dice >= 0.7 && dice < 0.8) {
      const node = pick(honest);
      if (node.machine === undefined) node.start();
      else node.kill();
    }
    world.time.advance(random.fraction() * 3_000);
  }

  tell('peace');
  world.groups = undefined;
  world.path = { loss: 0, minDelay: 1, maxDelay: 20 };
  for (const node of honest) if (node.machine === undefined) node.start();
  for (const one of [liar, twin]) if (random.fraction() < 0.5) one?.kill();
  const same = (of: readonly Node[]): boolean =>
    new Set(of.map((node) => `${node.digest()} ${JSON.stringify(node.standing())}`)).size === 1;
  world.until(() => same(honest), 120_000);
  world.time.advance(30_000);
  const agreed = same(honest);
  tell(agreed ? 'agreement' : 'no agreement');

  const remover = pick(honest);
  remover.append({
    type: 'peer.removed',
    entity: liar.peerId,
    data: { peer_id: liar.peerId, last_seq: remover.log.versionVector()[liar.peerId] ?? 0 },
  });
  liar.kill();
  twin?.kill();
  world.time.advance(5_000);
  const fresh = world.add();
  fresh.bootstrap();
  fresh.start();
  world.join(remover, fresh);
  fresh.write('again');
  const all = [...honest, fresh];
  world.until(() => same(all), 120_000);
  const held = (node: Node): ReadonlySet<string> =>
    new Set(
      node.config().flatMap((event) => (event.type === 'peer.updated' ? [event.data.version ?? ''] : [])),
    );
  const everywhere = all.map(held);
  return {
    agree: agreed && same(all),
    sound: all.every((node) => {
      const fold = new Fold();
      for (const event of node.log.events) fold.apply(event);
      return settled(fold, () => [node.log.events]).digest() === node.digest();
    }),
    lost: written.filter((one) => everywhere.some((versions) => !versions.has(one))),
    announced: new Set(
      honest.flatMap((node) =>
        node.log.events.filter((event) => event.type === 'peer.forked').map((event) => event.id),
      ),
    ).size,
    healed: everywhere.every((versions) => versions.has('again')),
    story,
  };
}
