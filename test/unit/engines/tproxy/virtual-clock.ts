import type { EngineClock } from '../../../../src/engines/tproxy/dependencies.ts';

export interface VirtualClock extends EngineClock {
  /** Moves time on and runs what falls due, in order. */
  advance(ms: number): void;
  /** Timers that are set. */
  pending(): number;
}

export function createVirtualClock(): VirtualClock {
  let now = 0;
  const timers = new Set<{ at: number; run: () => void }>();
  return {
    now: () => now,
    monotonic: () => now,
    after(ms, run) {
      const timer = { at: now + ms, run };
      timers.add(timer);
      return () => timers.delete(timer);
    },
    advance(ms) {
      const end = now + ms;
      for (;;) {
        const [next] = [...timers].filter((one) => one.at <= end).sort((a, b) => a.at - b.at);
        if (next === undefined) break;
        timers.delete(next);
        now = next.at;
        next.run();
      }
      now = end;
    },
    pending: () => timers.size,
  };
}
