import type { PeerId } from '../../events/brand.ts';
import type { Random } from '../../events/clock.ts';
import { ArcticError } from '../../events/errors.ts';
import type { PostOptions, PostOutcome } from '../../src/gossip/machine/core.ts';
import { Post } from './light.ts';
import { Node, type NodeOptions, SYSTEM_CONTEXT } from './node.ts';
import { seededRandom, VirtualTime } from './virtual-clock.ts';

export { FORGED_SIGNATURE, type Node, SYSTEM_CONTEXT, testLicense } from './node.ts';

/** How the network between two hosts behaves. */
export interface Path {
  /** Chance that a request or an answer is lost. */
  readonly loss: number;
  readonly minDelay: number;
  readonly maxDelay: number;
}

/** Hosts, a network between them, and time; all of it follows from one seed. */
export class World {
  readonly time = new VirtualTime();
  readonly random: Random;
  readonly nodes: Node[] = [];
  readonly #byEndpoint = new Map<string, Node>();
  path: Path = { loss: 0, minDelay: 1, maxDelay: 20 };
  /** Nodes in different groups cannot reach each other; undefined: one network. */
  groups: ((node: Node) => number) | undefined;
  /** Directed pairs that cannot talk. */
  readonly blocked = new Set<string>();
  requests = 0;
  bytes = 0;
  /** What became of every request; each is counted under exactly one heading. */
  readonly fates = { answered: 0, lost: 0, partitioned: 0, blocked: 0, down: 0, nobody: 0 };
  /** Requests that have been sent and have not met their fate yet. */
  underWay = 0;
  /** Sees every body on the wire; may replace it. */
  tap: ((options: PostOptions, from: Node, to: Node) => Uint8Array) | undefined;

  /** Set when the costly parts are stood in for (light.ts). */
  readonly light: Post | undefined;

  constructor(seed: number, options: { readonly light?: boolean } = {}) {
    this.random = seededRandom(seed);
    this.light = options.light === true ? new Post() : undefined;
  }

  add(options: NodeOptions = {}): Node {
    const node = new Node(this, this.nodes.length, options);
    this.nodes.push(node);
    this.#byEndpoint.set(`http://${node.address}`, node);
    return node;
  }

  /** Bootstrapped and started hosts, joined to the first one after another. */
  cluster(count: number, options: NodeOptions = {}): Node[] {
    const nodes = Array.from({ length: count }, () => this.add(options));
    const [first, ...others] = nodes;
    for (const node of nodes) {
      node.bootstrap();
      node.start();
    }
    for (const other of others) if (first !== undefined) this.join(first, other);
    return nodes;
  }

  /** The same without its beginning: every host holds what all of them signed when they came together. */
  founded(count: number, options: NodeOptions = {}): Node[] {
    const nodes = Array.from({ length: count }, () => this.add(options));
    const [first, ...others] = nodes;
    for (const node of nodes) node.bootstrap();
    for (const { peerId, address, signer } of others)
      first?.append({
        type: 'peer.admitted',
        entity: peerId,
        data: {
          peer_id: peerId,
          public_key: Buffer.from(signer.publicKey).toString('base64'),
          name: null,
          address,
          endpoints: [`http://${address}`],
        },
      });
    for (const from of nodes)
      for (const to of nodes)
        if (from !== to)
          to.log.receive(from.peerId, from.signer.publicKey, from.log.range(from.peerId, 1, 10_000));
    for (const node of nodes) node.start();
    return nodes;
  }

  /** `peers add`, to its end. */
  join(from: Node, to: Node, address = to.address): PeerId {
    const result = this.tryJoin(from, address);
    if (result instanceof ArcticError) throw result;
    return result;
  }

  tryJoin(from: Node, address: string): PeerId | ArcticError {
    let result: PeerId | ArcticError | undefined;
    from.running.join({ address, name: undefined, context: SYSTEM_CONTEXT }, (outcome) => {
      result = outcome;
    });
    this.time.advance(120_000, () => result !== undefined);
    return result ?? new ArcticError('UNAVAILABLE', 'the join never ended');
  }

  /** The host at an endpoint; hosts may move. */
  #at(endpoint: string): Node | undefined {
    const isThere = (node: Node): boolean => endpoint === `http://${node.address}` && !node.gone;
    const usual = this.#byEndpoint.get(endpoint);
    return usual !== undefined && isThere(usual) ? usual : this.nodes.find(isThere);
  }

  post(from: Node, options: PostOptions, done: (outcome: PostOutcome) => void): void {
    const { time, random } = this;
    const endpoint = options.endpoints[0] ?? '';
    const to = this.#at(endpoint);
    const slow = from.slowness + (to?.slowness ?? 0);
    const delay = () =>
      slow + this.path.minDelay + random.fraction() * (this.path.maxDelay - this.path.minDelay);
    const obstacle = (a: Node, b: Node): 'lost' | 'partitioned' | 'blocked' | undefined => {
      if (this.groups !== undefined && this.groups(a) !== this.groups(b)) return 'partitioned';
      if (this.blocked.has(`${a.index}>${b.index}`)) return 'blocked';
      return random.fraction() < this.path.loss ? 'lost' : undefined;
    };
    const cut = (a: Node, b: Node): boolean => {
      const reason = obstacle(a, b);
      if (reason !== undefined) this.fates[reason] += 1;
      return reason !== undefined;
    };
    /** An answer that comes too late is none: the caller has given up. */
    let over = false;
    const finish = (outcome: PostOutcome): void => {
      if (over) return;
      over = true;
      done(outcome);
    };
    this.requests += 1;
    this.bytes += options.body.length;
    time.after(options.timeoutMs, () => finish({ kind: 'fault', fault: 'timeout' }));
    const refuse = () => time.after(delay(), () => finish({ kind: 'fault', fault: 'refused' }));
    if (to === undefined) {
      this.fates.nobody += 1;
      refuse();
      return;
    }
    if (cut(from, to)) return;
    this.underWay += 1;
    const body = this.tap?.(options, from, to) ?? options.body;
    time.after(delay(), () => {
      this.underWay -= 1;
      if (to.machine === undefined) {
        this.fates.down += 1;
        refuse();
        return;
      }
      const response = to.machine.handle({
        method: 'POST',
        path: options.path,
        headers: {},
        body,
        remoteAddress: from.address,
      });
      if (cut(to, from)) return;
      this.fates.answered += 1;
      this.bytes += response.body.length;
      time.after(delay(), () =>
        finish({ kind: 'answer', status: response.status, body: response.body, endpoint }),
      );
    });
  }

  /** Every running host holds the same config events and believes the same. */
  converged(): boolean {
    const running = this.nodes.filter((node) => node.machine !== undefined);
    const vectors = new Set(running.map((node) => JSON.stringify(node.standing())));
    return vectors.size === 1 && new Set(running.map((node) => node.digest())).size === 1;
  }

  /** Advances until `condition`, at most `limitMs`; says whether it came true. */
  until(condition: () => boolean, limitMs: number): boolean {
    const end = this.time.now + limitMs;
    while (this.time.now < end) {
      if (condition()) return true;
      this.time.advance(100);
    }
    return condition();
  }
}
