import { Type } from 'typebox';
import type { Position } from '../../events/brand.ts';
import { ArcticError } from '../../events/errors.ts';
import { endOfMs } from '../../events/hlc.ts';
import type { Moment as FoldMoment } from '../../projections/replay.ts';

/** A query parameter that names a moment. */
export const Moment = Type.String({
  maxLength: 40,
  description: 'A position of this log, or an RFC 3339 time.',
});

const RFC3339 = /^\d{4}-\d{2}-\d{2}[Tt ]\d{2}:\d{2}:\d{2}(\.\d+)?([Zz]|[+-]\d{2}:\d{2})$/;

/** Milliseconds since the epoch of an RFC 3339 time; undefined for anything else. */
export function timeIn(text: string): number | undefined {
  const ms = RFC3339.test(text) ? Date.parse(text) : Number.NaN;
  return Number.isNaN(ms) || ms < 0 ? undefined : ms;
}

export const positionIn = (text: string): Position | undefined =>
  /^\d{1,15}$/.test(text) ? (Number(text) as Position) : undefined;

/** A position, or a time: everything up to the end of that millisecond. Throws INVALID_REQUEST naming the parameter. */
export function momentOf(text: string, parameter: string): NonNullable<FoldMoment> {
  const position = positionIn(text);
  if (position !== undefined) return { position };
  const ms = timeIn(text);
  if (ms === undefined) throw badMoment(parameter);
  return { hlc: endOfMs(ms) };
}

export const badMoment = (parameter: string): ArcticError =>
  new ArcticError(
    'INVALID_REQUEST',
    `${parameter} must be a position or an RFC 3339 time, such as 2026-01-31T12:00:00Z.`,
    [{ pointer: `querystring/${parameter}`, message: 'is neither a position nor a time' }],
  );
