import type { Random } from '../../events/clock.ts';
import { seededRandom, VirtualTime } from './virtual-clock.ts';

/**
 * hashicorp/memberlist's failure detection with Lifeguard, from its source (state.go, suspicion.go, awareness.go), for comparison:
 * round-robin probes, indirect probes with nacks, a local health score that stretches probes and their time-outs, suspicion whose
 * limit falls as members confirm, refutation. Dissemination is idealised to its advantage: everybody hears within a second.
 */
export interface MemberlistOptions {
  /** ProbeInterval, ms; ProbeTimeout is half of it, as in its LAN defaults. */
  readonly probeInterval: number;
}

interface Suspicion {
  readonly incarnation: number;
  readonly since: number;
  readonly from: Set<number>;
  cancel: () => void;
}

interface Other {
  state: 'alive' | 'suspect' | 'dead';
  incarnation: number;
  suspicion: Suspicion | undefined;
}

export interface MemberlistNode {
  readonly index: number;
  frozenUntil: number;
  incarnation: number;
  /** Awareness: 0 (healthy) to 7. */
  score: number;
  readonly others: Map<number, Other>;
}

const SUSPICION_MULT = 4;
const SUSPICION_MAX_MULT = 6;
const INDIRECT_CHECKS = 3;
const AWARENESS_MAX = 8;

export class Memberlist {
  readonly time = new VirtualTime();
  readonly random: Random;
  readonly nodes: MemberlistNode[];
  /** Members that some member came to believe dead, once for each believer. */
  readonly failures: { readonly by: number; readonly target: number }[] = [];
  readonly #interval: number;

  constructor(count: number, seed: number, options: MemberlistOptions) {
    this.random = seededRandom(seed);
    this.#interval = options.probeInterval;
    this.nodes = Array.from({ length: count }, (_, index) => ({
      index,
      frozenUntil: 0,
      incarnation: 1,
      score: 0,
      others: new Map(
        Array.from({ length: count }, (_, other) => other)
          .filter((other) => other !== index)
          .map((other) => [other, { state: 'alive', incarnation: 1, suspicion: undefined }]),
      ),
    }));
    for (const node of this.nodes)
      this.#timer(node, this.random.fraction() * this.#interval, () => this.#round(node, []));
  }

  #timer(node: MemberlistNode, ms: number, run: () => void): () => void {
    let cancel = (): void => {};
    const wake = (): void => {
      const wait = node.frozenUntil - this.time.now;
      if (wait > 0) cancel = this.time.after(wait, wake);
      else run();
    };
    cancel = this.time.after(ms, wake);
    return () => cancel();
  }

  #send(to: MemberlistNode, run: () => void): void {
    this.time.after(1 + this.random.fraction() * 19, () => {
      const wait = to.frozenUntil - this.time.now;
      if (wait > 0) this.time.after(wait, run);
      else run();
    });
  }

  #node(index: number): MemberlistNode {
    const node = this.nodes[index];
    if (node === undefined) throw new Error(`no node ${index}`);
    return node;
  }

  #round(node: MemberlistNode, queue: number[]): void {
    let rest = queue;
    if (rest.length === 0) {
      rest = [...node.others.keys()];
      for (let i = rest.length - 1; i > 0; i -= 1) {
        const j = Math.floor(this.random.fraction() * (i + 1));
        [rest[i], rest[j]] = [rest[j] ?? 0, rest[i] ?? 0];
      }
    }
    const target = rest.pop();
    if (target !== undefined && node.others.get(target)?.state !== 'dead')
      this.#probe(node, this.#node(target));
    this.#timer(node, this.#interval * (1 + node.score), () => this.#round(node, rest));
  }

  #awareness(node: MemberlistNode, delta: number): void {
    node.score = Math.min(AWARENESS_MAX - 1, Math.max(0, node.score + delta));
  }

  #probe(node: MemberlistNode, target: MemberlistNode): void {
    const interval = this.#interval * (1 + node.score);
    let acknowledged = false;
    let nacks = 0;
    let asked = 0;
    const acknowledge = (): void => {
      if (acknowledged) return;
      acknowledged = true;
      this.#awareness(node, -1);
    };
    const ask = (): void => this.#send(target, () => this.#send(node, acknowledge));
    if (node.others.get(target.index)?.state === 'suspect') this.#tellSuspicion(node, target);
    ask();
    this.#timer(node, (this.#interval / 2) * (1 + node.score), () => {
      if (acknowledged) return;
      const helpers = this.nodes.filter(
        (one) => one !== node && one !== target && node.others.get(one.index)?.state === 'alive',
      );
      for (let i = 0; i < INDIRECT_CHECKS && helpers.length > 0; i += 1) {
        const [helper] = helpers.splice(Math.floor(this.random.fraction() * helpers.length), 1);
        if (helper === undefined) continue;
        asked += 1;
        this.#send(helper, () => {
          let answered = false;
          this.#send(target, () =>
            this.#send(helper, () => {
              answered = true;
              this.#send(node, acknowledge);
            }),
          );
          this.#timer(helper, this.#interval / 2, () => {
            if (answered) return;
            this.#send(node, () => {
              nacks += 1;
            });
          });
        });
      }
      // TCP as the last resort comes to the same host over the same network.
      ask();
    });
    this.#timer(node, interval, () => {
      if (acknowledged) return;
      acknowledged = true;
      this.#awareness(node, asked > 0 ? asked - nacks : 1);
      this.#suspect(node, target.index, node.others.get(target.index)?.incarnation ?? 1, node.index);
    });
  }

  /** The buddy system: a suspect hears of it with the probe. */
  #tellSuspicion(node: MemberlistNode, target: MemberlistNode): void {
    const incarnation = node.others.get(target.index)?.incarnation ?? 1;
    this.#send(target, () => this.#refute(target, incarnation));
  }

  #refute(node: MemberlistNode, incarnation: number): void {
    if (incarnation < node.incarnation) return;
    node.incarnation = incarnation + 1;
    this.#awareness(node, 1);
    const mine = node.incarnation;
    this.#spread(node, (other) => this.#alive(other, node.index, mine));
  }

  /** Gossip every 200 ms to three members reaches a cluster of this size in less than a second. */
  #spread(from: MemberlistNode, run: (node: MemberlistNode) => void): void {
    for (const node of this.nodes)
      if (node !== from)
        this.time.after(this.random.fraction() * 1_000, () => this.#send(node, () => run(node)));
  }

  #alive(node: MemberlistNode, target: number, incarnation: number): void {
    const other = node.others.get(target);
    if (other === undefined || incarnation <= other.incarnation) return;
    other.incarnation = incarnation;
    other.suspicion?.cancel();
    other.suspicion = undefined;
    other.state = 'alive';
  }

  #suspect(node: MemberlistNode, target: number, incarnation: number, from: number): void {
    if (target === node.index) {
      this.#refute(node, incarnation);
      return;
    }
    const other = node.others.get(target);
    if (other === undefined || incarnation < other.incarnation || other.state === 'dead') return;
    const needed = this.nodes.length - 2 < SUSPICION_MULT - 2 ? 0 : SUSPICION_MULT - 2;
    if (other.suspicion !== undefined) {
      if (other.suspicion.from.has(from) || other.suspicion.from.size - 1 >= needed) return;
      other.suspicion.from.add(from);
      this.#arm(node, target, other, other.suspicion, needed);
      this.#spread(node, (one) => this.#suspect(one, target, incarnation, from));
      return;
    }
    other.state = 'suspect';
    other.incarnation = incarnation;
    other.suspicion = { incarnation, since: this.time.now, from: new Set([from]), cancel: () => {} };
    this.#arm(node, target, other, other.suspicion, needed);
    this.#spread(node, (one) => this.#suspect(one, target, incarnation, from));
  }

  #arm(node: MemberlistNode, target: number, other: Other, suspicion: Suspicion, needed: number): void {
    suspicion.cancel();
    const shortest =
      SUSPICION_MULT * Math.max(1, Math.log10(Math.max(1, this.nodes.length))) * this.#interval;
    const longest = SUSPICION_MAX_MULT * shortest;
    const confirmations = suspicion.from.size - 1;
    const limit =
      needed < 1
        ? shortest
        : Math.max(
            shortest,
            longest - (Math.log(confirmations + 1) / Math.log(needed + 1)) * (longest - shortest),
          );
    suspicion.cancel = this.#timer(node, Math.max(0, suspicion.since + limit - this.time.now), () => {
      if (other.suspicion === suspicion) this.#dead(node, target, suspicion.incarnation);
    });
  }

  #dead(node: MemberlistNode, target: number, incarnation: number): void {
    if (target === node.index) {
      this.#refute(node, incarnation);
      return;
    }
    const other = node.others.get(target);
    if (other === undefined || incarnation < other.incarnation || other.state === 'dead') return;
    other.state = 'dead';
    other.suspicion?.cancel();
    other.suspicion = undefined;
    this.failures.push({ by: node.index, target });
    this.#spread(node, (one) => this.#dead(one, target, incarnation));
  }
}
