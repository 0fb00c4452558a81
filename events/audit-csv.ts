import type { EventBody, EventPrefix } from './audit-format.ts';

/**
 * CSV (RFC 4180) for spreadsheets: columns for people, and in the last one, `record`, the whole line of the JSONL form, so
 * that the CSV proves exactly what the JSONL proves. Every cell is quoted. A cell that a spreadsheet would take for a formula
 * (it begins with = + - @, a tab or a line end) or that begins with an apostrophe gets an apostrophe before it.
 */
export const CSV_COLUMNS = [
  'line',
  'kind',
  'position',
  'time',
  'recorded_at',
  'origin',
  'stream',
  'seq',
  'type',
  'entity',
  'actor_kind',
  'actor_id',
  'actor_address',
  'correlation_id',
  'data',
  'before',
  'after',
  'record',
] as const;

/** Characters a cell may not begin with as it is. */
const RISKY = new Set([..."=+-@\t\r\n'"].map((character) => character.charCodeAt(0)));

const cell = (value: string): string => {
  const safe = RISKY.has(value.charCodeAt(0)) ? `'${value}` : value;
  return safe.includes('"') ? `"${safe.replaceAll('"', '""')}"` : `"${safe}"`;
};

const row = (cells: readonly string[]): string => cells.map(cell).join(',');

export const CSV_HEAD = row(CSV_COLUMNS);

const json = (value: unknown): string => (value === null ? '' : JSON.stringify(value));

/** The row of an event. */
export const csvEventRow = (record: string, prefix: EventPrefix, body: EventBody): string =>
  row([
    String(prefix.line),
    prefix.kind,
    String(prefix.position),
    prefix.time,
    prefix.recorded_at,
    body.origin,
    body.stream,
    String(body.seq),
    body.type,
    body.entity,
    body.actor.kind,
    body.actor.id ?? '',
    body.actor.address ?? '',
    body.correlation_id,
    json(body.data),
    json(prefix.before),
    json(prefix.after),
    record,
  ]);

/** The row of any other line. */
export const csvPlainRow = (record: string, line: number, kind: string): string =>
  row([String(line), kind, ...CSV_COLUMNS.slice(2, -1).map(() => ''), record]);

/** The `record` of a row; undefined when the row is not one of ours. */
export function csvRecord(text: string): string | undefined {
  if (!text.startsWith('"') || !text.endsWith('"')) return undefined;
  // In an escaped cell every quote is doubled, so the last cell begins after the last quote-comma-quote that stands alone.
  const at = text.lastIndexOf(',"{""line"":');
  return at < 0 ? undefined : text.slice(at + 2, -1).replaceAll('""', '"');
}
