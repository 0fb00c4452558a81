import type { EngineClock, EngineLogger } from './dependencies.ts';

const INTERVAL_MS = 10_000;
/** Keys come from what peers send; past this many the oldest is forgotten. */
const MOST_KEYS = 1_000;

export type WarnSeldom = (key: string, fields: object, text: string) => void;

/** Warnings a hostile or broken peer could cause at will: one per key in ten seconds, with the number left out. */
export function createWarnSeldom(logger: EngineLogger, clock: EngineClock): WarnSeldom {
  const seen = new Map<string, { at: number; suppressed: number }>();
  return (key, fields, text) => {
    const now = clock.monotonic();
    const last = seen.get(key);
    if (last !== undefined && now - last.at < INTERVAL_MS) {
      last.suppressed += 1;
      return;
    }
    seen.delete(key);
    seen.set(key, { at: now, suppressed: 0 });
    if (seen.size > MOST_KEYS) {
      const oldest = seen.keys().next();
      if (!oldest.done) seen.delete(oldest.value);
    }
    logger.warn(
      last === undefined || last.suppressed === 0 ? fields : { ...fields, suppressed: last.suppressed },
      text,
    );
  };
}
