import type { Hlc } from './brand.ts';
import type { Clock } from './clock.ts';
import type { Stream } from './stream.ts';

/**
 * Hybrid logical clock (Kulkarni, Demirbas, Madappa, Avva, Leone: "Logical Physical Clocks", OPODIS 2014): stays close
 * to wall time, never runs backwards, and any event comes after every event its host had seen.
 */
export interface HybridClock {
  /** Time of the next event of this host; strictly greater than every earlier tick and observation, and than `after`. */
  tick(after?: Hlc): Hlc;
  /** How far a remote time is ahead of our wall clock, in ms, when that is more than is tolerated; undefined when it is fine. */
  tooFarAhead(remote: Hlc): number | undefined;
  /** Takes note of a time seen on another host. Refuses one that is too far ahead and stays as it was. */
  observe(remote: Hlc): Observation;
  /** The newest time given or seen; persisted with every event, so that a restart continues after it. */
  last(): Hlc;
}

export type Observation =
  | { readonly kind: 'observed' }
  | { readonly kind: 'ahead'; readonly aheadMs: number };

/** A peer further ahead than this is held back: one wrong clock must not drag the cluster's history into the future. */
export const MAX_SKEW_MS = 60_000;

export const ZERO_HLC = '000000000000.0000' as Hlc;

const COUNTER_LIMIT = 0xffff;
const PATTERN = /^[0-9a-f]{12}\.[0-9a-f]{4}$/;

export const formatHlc = (ms: number, counter: number): Hlc =>
  `${ms.toString(16).padStart(12, '0')}.${counter.toString(16).padStart(4, '0')}` as Hlc;

export const isHlc = (text: unknown): text is Hlc => typeof text === 'string' && PATTERN.test(text);

export const parseHlc = (hlc: Hlc): { readonly ms: number; readonly counter: number } => ({
  ms: timeOf(hlc),
  counter: Number.parseInt(hlc.slice(13), 16),
});

/** Wall-clock part, milliseconds since the epoch. */
export const timeOf = (hlc: Hlc): number => Number.parseInt(hlc.slice(0, 12), 16);

const DAY_MS = 86_400_000;
const TWO_DIGITS: readonly string[] = Array.from({ length: 60 }, (_, n) => String(n).padStart(2, '0'));
/** The day last written. Histories are read in order, so it is mostly the next one too: 0.12 us a time instead of 0.55. */
let day = { number: Number.NaN, text: '' };

/** RFC 3339 in UTC with milliseconds, as `Date.toISOString`. */
export function isoTime(ms: number): string {
  const number = Math.floor(ms / DAY_MS);
  if (number !== day.number) day = { number, text: new Date(ms).toISOString().slice(0, -13) };
  const rest = ms - number * DAY_MS;
  const seconds = Math.floor(rest / 1_000);
  const minutes = Math.floor(seconds / 60);
  const milliseconds = rest - seconds * 1_000;
  return (
    `${day.text}${TWO_DIGITS[Math.floor(minutes / 60)]}:${TWO_DIGITS[minutes % 60]}:${TWO_DIGITS[seconds % 60]}` +
    `.${milliseconds < 100 ? '0' : ''}${milliseconds < 10 ? '0' : ''}${milliseconds}Z`
  );
}

/** Wall-clock part of a clock reading as text. */
export const timeText = (hlc: Hlc): string => isoTime(timeOf(hlc));

/** The greatest clock value of a millisecond: everything up to and including `ms` sorts at or before it. */
export const endOfMs = (ms: number): Hlc => formatHlc(ms, COUNTER_LIMIT);

export function createHlc(options: { readonly last?: Hlc }, deps: { readonly clock: Clock }): HybridClock {
  let { ms, counter } = parseHlc(options.last ?? ZERO_HLC);

  const tooFarAhead = (remote: Hlc): number | undefined => {
    const aheadMs = timeOf(remote) - deps.clock.now();
    return aheadMs > MAX_SKEW_MS ? aheadMs : undefined;
  };

  return {
    tick(after = ZERO_HLC) {
      const least = parseHlc(after);
      if (least.ms > ms || (least.ms === ms && least.counter > counter)) ({ ms, counter } = least);
      const wall = Math.max(0, Math.floor(deps.clock.now()));
      if (wall > ms) {
        ms = wall;
        counter = 0;
      } else if (counter < COUNTER_LIMIT) {
        counter += 1;
      } else {
        ms += 1;
        counter = 0;
      }
      return formatHlc(ms, counter);
    },
    tooFarAhead,
    // The wall clock is not read here: a host's own time enters at the next tick, which is when it matters.
    observe(remote) {
      const aheadMs = tooFarAhead(remote);
      if (aheadMs !== undefined) return { kind: 'ahead', aheadMs };
      const seen = parseHlc(remote);
      if (seen.ms > ms || (seen.ms === ms && seen.counter > counter)) ({ ms, counter } = seen);
      return { kind: 'observed' };
    },
    last: () => formatHlc(ms, counter),
  };
}

export interface HostClocks {
  /** What peers' events are compared with and observed by. */
  readonly config: HybridClock;
  /** Time of the next event of this host in a stream; after every earlier one of both streams, save for what `createHostClocks` says. */
  tick(stream: Stream): Hlc;
}

/**
 * The clocks of a host's two streams. A host that boots with a clock that is far ahead writes local events at once. What it
 * changes when the clock has been set is not dated by those, or its peers would hold it back until then.
 */
export function createHostClocks(
  last: { readonly config: Hlc; readonly local: Hlc },
  deps: { readonly clock: Clock },
): HostClocks {
  const config = createHlc({ last: last.config }, deps);
  const local = createHlc({ last: last.local }, deps);
  /** The newest local time that the other clock has not seen yet. */
  let unseen: Hlc | undefined = last.local;
  return {
    config,
    tick(stream) {
      if (stream === 'local') {
        unseen = local.tick(config.last());
        return unseen;
      }
      if (unseen !== undefined) config.observe(unseen);
      unseen = undefined;
      return config.tick();
    },
  };
}
