import type { Clock, Random } from '../../events/clock.ts';

interface Timer {
  readonly at: number;
  readonly order: number;
  readonly run: () => void;
  cancelled: boolean;
}

/** 2026-01-01T00:00:00Z. */
const EPOCH = 1_767_225_600_000;

/** Time that passes only when told to. Timers due at one moment run in the order they were set. */
export class VirtualTime {
  #now = 0;
  #order = 0;
  readonly #heap: Timer[] = [];

  get now(): number {
    return this.#now;
  }

  /** A host's clock; its wall clock is off by `skew()` milliseconds. */
  clock(skew: () => number = () => 0): Clock {
    return {
      now: () => EPOCH + Math.floor(this.#now) + skew(),
      monotonic: () => this.#now,
      after: (ms, run) => this.after(ms, run),
    };
  }

  after(ms: number, run: () => void): () => void {
    const timer: Timer = { at: this.#now + Math.max(0, ms), order: this.#order++, run, cancelled: false };
    this.#push(timer);
    return () => {
      timer.cancelled = true;
    };
  }

  /** Runs everything due within `ms`, or until `stop` says so. */
  advance(ms: number, stop: () => boolean = () => false): void {
    const end = this.#now + ms;
    for (;;) {
      const next = this.#heap[0];
      if (next === undefined || next.at > end || stop()) break;
      this.#pop();
      this.#now = Math.max(this.#now, next.at);
      if (!next.cancelled) next.run();
    }
    if (!stop()) this.#now = end;
  }

  #before(a: Timer | undefined, b: Timer | undefined): boolean {
    if (a === undefined || b === undefined) return false;
    return a.at < b.at || (a.at === b.at && a.order < b.order);
  }

  #swap(i: number, j: number): void {
    const a = this.#heap[i];
    const b = this.#heap[j];
    if (a === undefined || b === undefined) return;
    this.#heap[i] = b;
    this.#heap[j] = a;
  }

  #push(timer: Timer): void {
    let i = this.#heap.push(timer) - 1;
    while (i > 0) {
      const parent = (i - 1) >> 1;
      if (!this.#before(this.#heap[i], this.#heap[parent])) break;
      this.#swap(i, parent);
      i = parent;
    }
  }

  #pop(): void {
    const last = this.#heap.pop();
    if (last === undefined || this.#heap.length === 0) return;
    this.#heap[0] = last;
    let i = 0;
    for (;;) {
      let least = i;
      for (const child of [2 * i + 1, 2 * i + 2]) {
        if (this.#before(this.#heap[child], this.#heap[least])) least = child;
      }
      if (least === i) return;
      this.#swap(i, least);
      i = least;
    }
  }
}

/** mulberry32: a run is repeated from its seed alone. */
export function seededRandom(seed: number): Random {
  let state = seed >>> 0;
  const next = (): number => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
  return {
    fraction: next,
    bytes: (count) => Uint8Array.from({ length: count }, () => Math.floor(next() * 256)),
  };
}
