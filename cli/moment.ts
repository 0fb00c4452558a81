import type { Position } from '../events/brand.ts';
import { endOfMs } from '../events/hlc.ts';
import { usageFailure } from './failure.ts';

/** A position, or a time in full RFC 3339, as the API takes them. @throws Failure (usage) */
export function readMoment(text: string, flag: string): string {
  if (/^\d{1,15}$/.test(text)) return text;
  if (/^\d{4}-\d{2}-\d{2}([T ].*)?$/.test(text) && !Number.isNaN(Date.parse(text)))
    return new Date(text).toISOString();
  throw usageFailure(`--${flag} must be a position or a time such as 2026-03-01T12:00:00Z, not '${text}'.`);
}

/** The same for a log that is read here. */
export const foldMoment = (moment: string) =>
  /^\d+$/.test(moment) ? { position: Number(moment) as Position } : { hlc: endOfMs(Date.parse(moment)) };
