import type { Clock } from '../../events/clock.ts';

export interface RateLimitOptions {
  /** Requests that may come at once. */
  readonly burst: number;
  /** Requests a second after that. */
  readonly perSecond: number;
  /** Buckets kept; the longest unused go first, so that memory is bounded. */
  readonly maxKeys: number;
}

/** A token bucket a key. */
export interface RateLimit {
  /** Takes a token; 0 when there was one, else the seconds until there will be. */
  take(key: string): number;
}

export function createRateLimit(options: RateLimitOptions, deps: { readonly clock: Clock }): RateLimit {
  const { burst, perSecond, maxKeys } = options;
  const buckets = new Map<string, { tokens: number; at: number }>();
  return {
    take(key) {
      const at = deps.clock.monotonic();
      const held = buckets.get(key);
      const tokens =
        held === undefined ? burst : Math.min(burst, held.tokens + ((at - held.at) / 1_000) * perSecond);
      // Put at the end again: a Map keeps insertion order, which makes it the order of use.
      buckets.delete(key);
      buckets.set(key, { tokens: tokens >= 1 ? tokens - 1 : tokens, at });
      if (buckets.size > maxKeys) {
        const [oldest] = buckets.keys();
        if (oldest !== undefined) buckets.delete(oldest);
      }
      return tokens >= 1 ? 0 : Math.ceil((1 - tokens) / perSecond);
    },
  };
}
