import type { EngineClock } from './dependencies.ts';

/** Least burst in bytes: below two frames a fast path would stall between timer ticks. */
const LEAST_BURST = 131_072;
/** The burst is what the rate carries in this time, in milliseconds. */
const BURST_MS = 20;

/** Shared by the flows of one service in one direction; grants in the order of asking. */
export interface TokenBucket {
  /** Bits a second; 0 is unlimited. Waiting requests are judged anew. */
  setRate(bitsPerSecond: number): void;
  /** True when `bytes` may pass now. Otherwise `granted` is called once, later, unless cancelled. */
  request(bytes: number, granted: () => void): true | (() => void);
  /** How often a request had to wait. */
  waits(): number;
  stop(): void;
}

interface Waiter {
  readonly bytes: number;
  readonly granted: () => void;
}

/**
 * Tokens accrue at the rate up to the burst. A request passes while tokens are left, even if it takes more than
 * there are: the debt delays the next one, so the long-term rate is exact for requests of any size.
 */
export function createTokenBucket(bitsPerSecond: number, clock: EngineClock): TokenBucket {
  let bytesPerMs = bitsPerSecond / 8_000;
  let tokens = burst();
  let at = clock.monotonic();
  let waits = 0;
  let cancelTimer: (() => void) | undefined;
  const waiting: Waiter[] = [];

  function burst(): number {
    return Math.max(LEAST_BURST, bytesPerMs * BURST_MS);
  }

  function accrue(): void {
    const now = clock.monotonic();
    tokens = Math.min(burst(), tokens + (now - at) * bytesPerMs);
    at = now;
  }

  function serve(): void {
    cancelTimer = undefined;
    accrue();
    while (waiting.length > 0 && (bytesPerMs === 0 || tokens > 0)) {
      const next = waiting.shift();
      if (next === undefined) break;
      tokens -= next.bytes;
      next.granted();
    }
    arm();
  }

  function arm(): void {
    if (waiting.length === 0 || cancelTimer !== undefined) return;
    // One byte past zero, so that the timer never wakes for nothing.
    cancelTimer = clock.after(Math.max(1, Math.ceil((1 - tokens) / bytesPerMs)), serve);
  }

  return {
    setRate(bits) {
      accrue();
      bytesPerMs = bits / 8_000;
      tokens = bits === 0 ? burst() : Math.min(tokens, burst());
      cancelTimer?.();
      serve();
    },
    request(bytes, granted) {
      if (bytesPerMs === 0) return true;
      accrue();
      if (waiting.length === 0 && tokens > 0) {
        tokens -= bytes;
        return true;
      }
      waits += 1;
      const waiter = { bytes, granted };
      waiting.push(waiter);
      arm();
      return () => {
        const index = waiting.indexOf(waiter);
        if (index >= 0) waiting.splice(index, 1);
      };
    },
    waits: () => waits,
    stop() {
      cancelTimer?.();
      cancelTimer = undefined;
      waiting.length = 0;
    },
  };
}
