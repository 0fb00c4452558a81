import type { EventBody, EventPrefix } from './audit-format.ts';

/**
 * CSV (RFC 4180) for spreadsheets: columns for people, and in the last one, `record`, the whole line of the JSONL form, so
 * that the CSV proves exactly what the JSONL proves. Every cell is quoted. A cell that a spreadsheet would take for a formula
 * (it begins with = + - @, a tab or a line end) or that begins with an apostrophe gets an apostrophe before it.
 *
 * Inside this program a row is its cells with line feeds between them: no cell we write has one, and a row is one line.
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

export const CSV_HEAD = CSV_COLUMNS.map((name) => `"${name}"`).join(',');

/** Characters a cell may not begin with as it is. */
const RISKY = new Set([..."=+-@\t\r\n'"].map((character) => character.charCodeAt(0)));

const safe = (value: string): string => (RISKY.has(value.charCodeAt(0)) ? `'${value}` : value);

/** An object as JSON begins with a brace, so it needs no apostrophe. */
const json = (text: string): string => (text === 'null' ? '' : text);

/** The cells of an event's row but for its record. */
export const csvEventCells = (prefix: EventPrefix, body: EventBody): string =>
  `${prefix.line}\n${prefix.kind}\n${prefix.position}\n${prefix.time}\n${safe(prefix.recorded_at)}\n` +
  `${safe(body.origin)}\n${body.stream}\n${body.seq}\n${safe(body.type)}\n${safe(body.entity)}\n` +
  `${safe(body.actor.kind)}\n${safe(body.actor.id ?? '')}\n${safe(body.actor.address ?? '')}\n` +
  `${safe(body.correlation_id)}\n${JSON.stringify(body.data)}\n${json(prefix.before)}\n${json(prefix.after)}`;

const NOT_OF_EVENT = '\n'.repeat(CSV_COLUMNS.length - 3);

/** The cells of any other line's row but for its record. */
export const csvPlainCells = (line: number, kind: string): string => `${line}\n${safe(kind)}${NOT_OF_EVENT}`;

const QUOTE = 0x22;
const COMMA = 0x2c;
const LINE_FEED = 0x0a;

/**
 * Between cells and the text of a row, in one pass over its bytes: V8 builds a text of a hundred doubled quotes from two
 * hundred pieces, which takes five times as long. Keeps two buffers as large as the longest row.
 */
export interface CsvRows {
  /** The text of a row, without its line end. */
  write(cells: string, record: string): string;
  /** Undefined for what `write` gives for nothing: another number of cells, a cell without quotes, a quote alone in one. */
  read(row: string): { readonly cells: string; readonly record: string } | undefined;
}

export function createCsvRows(): CsvRows {
  let held = { from: Buffer.alloc(4_096), to: Buffer.alloc(16_384) };
  /** Buffers that are large enough for a text and what becomes of it. */
  const buffersFor = (text: string): typeof held => {
    // UTF-8 takes at most three bytes for a UTF-16 code unit, and a line feed becomes three.
    const most = 3 * text.length;
    if (held.from.length < most) held = { from: Buffer.alloc(2 * most), to: Buffer.alloc(6 * most + 2) };
    return held;
  };
  return {
    write(cells, record) {
      const text = `${cells}\n${record}`;
      const { from, to } = buffersFor(text);
      const end = from.write(text, 0, 'utf8');
      let length = 0;
      to[length++] = QUOTE;
      for (let at = 0; at < end; at += 1) {
        const byte = from[at] ?? 0;
        if (byte === LINE_FEED) {
          to[length++] = QUOTE;
          to[length++] = COMMA;
          to[length++] = QUOTE;
          continue;
        }
        to[length++] = byte;
        if (byte === QUOTE) to[length++] = QUOTE;
      }
      to[length++] = QUOTE;
      return to.toString('utf8', 0, length);
    },
    read(row) {
      const { from, to } = buffersFor(row);
      const last = from.write(row, 0, 'utf8') - 1;
      if (last < 1 || from[0] !== QUOTE || from[last] !== QUOTE) return undefined;
      let cells = 1;
      let length = 0;
      let lastCell = 0;
      for (let at = 1; at < last; at += 1) {
        const byte = from[at] ?? 0;
        if (byte === LINE_FEED) return undefined;
        if (byte !== QUOTE) {
          to[length++] = byte;
          continue;
        }
        at += 1;
        if (from[at] === QUOTE && at < last) to[length++] = QUOTE;
        else if (from[at] === COMMA && from[at + 1] === QUOTE && at + 1 < last) {
          to[length++] = LINE_FEED;
          lastCell = length;
          cells += 1;
          at += 1;
        } else return undefined;
      }
      if (cells !== CSV_COLUMNS.length) return undefined;
      return {
        cells: to.toString('utf8', 0, lastCell - 1),
        record: to.toString('utf8', lastCell, length),
      };
    },
  };
}
