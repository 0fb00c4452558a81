import { randomBytes } from 'node:crypto';

/** The one source of time. Tests and the simulator own theirs; nothing else reads `Date.now` or sets timers. */
export interface Clock {
  /** Wall clock, milliseconds since the epoch. */
  now(): number;
  /** Monotonic milliseconds, for durations. */
  monotonic(): number;
  /** Runs once after `ms`; the returned function cancels. The timer does not keep the process alive. */
  after(ms: number, run: () => void): () => void;
}

export const systemClock: Clock = {
  now: () => Date.now(),
  monotonic: () => performance.now(),
  after(ms, run) {
    const timer = setTimeout(run, ms);
    timer.unref();
    return () => clearTimeout(timer);
  },
};

/** Source of randomness, passed in so that ids and challenges are repeatable under test. */
export interface Random {
  bytes(count: number): Uint8Array;
  /** Uniform in [0, 1). Not for secrets. */
  fraction(): number;
}

/** The kernel's generator for bytes; `fraction` only spreads load. */
export const systemRandom: Random = {
  bytes: (count) => new Uint8Array(randomBytes(count)),
  fraction: () => Math.random(),
};
