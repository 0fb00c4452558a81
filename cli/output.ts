import type { Style } from './style.ts';
import { printable, type Terminal } from './terminal.ts';

export type Format = 'table' | 'json' | 'yaml';

export interface Column<Row> {
  readonly title: string;
  readonly value: (row: Row) => string;
  /** May be cut to this width when the terminal is narrow; without it the column is never cut (ids, states). */
  readonly shrinkTo?: number;
  /** May be left out when the terminal is narrow, the highest first; `-o json` has it. */
  readonly dispensable?: number;
  readonly align?: 'right';
  readonly paint?: (cell: string, style: Style) => string;
}

const GAP = 2;

/** Cells as wide as the terminal shows them: East Asian wide characters take two columns, combining marks none. */
export function displayWidth(text: string): number {
  let width = 0;
  for (const character of text) {
    const code = character.codePointAt(0) ?? 0;
    if (/\p{Mn}|\p{Me}|\p{Cf}/u.test(character)) continue;
    const wide =
      (code >= 0x1100 && code <= 0x115f) ||
      (code >= 0x2e80 && code <= 0xa4cf) ||
      (code >= 0xac00 && code <= 0xd7a3) ||
      (code >= 0xf900 && code <= 0xfaff) ||
      (code >= 0xfe30 && code <= 0xfe6f) ||
      (code >= 0xff00 && code <= 0xff60) ||
      (code >= 0x1f300 && code <= 0x1faff) ||
      (code >= 0x20000 && code <= 0x3fffd);
    width += wide ? 2 : 1;
  }
  return width;
}

function cut(text: string, width: number): string {
  if (displayWidth(text) <= width) return text;
  let kept = '';
  for (const character of text) {
    if (displayWidth(kept + character) > width - 1) break;
    kept += character;
  }
  return `${kept}…`;
}

/**
 * Lays rows out in columns. Within `width` (undefined: a pipe) columns that can be spared are left out first, then the widest
 * that may shrink are cut, with an ellipsis; ids never are. Into a pipe goes everything, so that grep and scripts see whole names.
 */
export function renderTable<Row>(
  rows: readonly Row[],
  all: readonly Column<Row>[],
  width: number | undefined,
  style: Style,
): string {
  const everything = rows.map((row) =>
    all.map((column) => printable(column.value(row)).replaceAll('\n', ' ')),
  );
  const wanted = all.map((column, at) =>
    Math.max(column.title.length, ...everything.map((line) => displayWidth(line[at] ?? ''))),
  );
  const kept = fitting(all, wanted, width ?? Number.POSITIVE_INFINITY);
  const columns = kept.flatMap((at) => all[at] ?? []);
  const widths = kept.map((at) => wanted[at] ?? 0);
  const cells = everything.map((line) => kept.map((at) => line[at] ?? ''));
  if (width !== undefined) {
    for (let over = lineWidth(widths) - width; over > 0; over--) {
      let widest = -1;
      columns.forEach((column, at) => {
        const own = widths[at] ?? 0;
        if (column.shrinkTo === undefined || own <= column.shrinkTo) return;
        if (widest < 0 || own > (widths[widest] ?? 0)) widest = at;
      });
      if (widest < 0) break;
      widths[widest] = (widths[widest] ?? 0) - 1;
    }
  }
  const layOut = (line: readonly string[], paint: (cell: string, at: number) => string) =>
    line
      .map((raw, at) => {
        const space = widths[at] ?? 0;
        const cell = cut(raw, space);
        const fill = ' '.repeat(Math.max(0, space - displayWidth(cell)));
        const column = columns[at];
        if (column?.align === 'right') return fill + paint(cell, at);
        return paint(cell, at) + (at === columns.length - 1 ? '' : fill);
      })
      .join(' '.repeat(GAP))
      .trimEnd();
  const head = layOut(
    columns.map((column) => column.title),
    (cell) => style.bold(cell),
  );
  const body = cells.map((line) => layOut(line, (cell, at) => columns[at]?.paint?.(cell, style) ?? cell));
  return `${[head, ...body].join('\n')}\n`;
}

const lineWidth = (widths: readonly number[]): number =>
  widths.reduce((sum, one) => sum + one, GAP * (widths.length - 1));

/** Places of the columns that are shown: without as many dispensable ones as it takes to stay within `width`. */
function fitting<Row>(
  columns: readonly Column<Row>[],
  widths: readonly number[],
  width: number,
): readonly number[] {
  let kept = columns.map((_, at) => at);
  const cost = (at: number): number => columns[at]?.dispensable ?? 0;
  const spare = kept.filter((at) => cost(at) > 0).sort((a, b) => cost(b) - cost(a));
  for (const gone of spare) {
    if (lineWidth(kept.map((at) => widths[at] ?? 0)) <= width) break;
    kept = kept.filter((at) => at !== gone);
  }
  return kept;
}

/** Words on lines of at most `width`; one that is longer stands alone, so that ids and paths can be copied. */
export function fold(text: string, width: number, indent = ''): string {
  const lines: string[] = [];
  let line = '';
  for (const word of text.split(' ')) {
    if (line !== '' && line.length + 1 + word.length > width - indent.length) {
      lines.push(line);
      line = word;
    } else line = line === '' ? word : `${line} ${word}`;
  }
  lines.push(line);
  return lines.map((one) => indent + one).join('\n');
}

/** `Name:  value` lines with the values under one another, folded to the terminal (`columns` undefined: a pipe). */
export function renderFields(
  fields: readonly (readonly [string, string])[],
  columns: number | undefined,
  style: Style,
): string {
  const start = Math.max(...fields.map(([name]) => name.length)) + 3;
  const folded = (value: string): string =>
    columns === undefined ? value : fold(value, columns - start).replaceAll('\n', `\n${' '.repeat(start)}`);
  return `${fields
    .map(
      ([name, value]) =>
        `${style.bold(`${name}:`)}${' '.repeat(start - name.length - 1)}${folded(printable(value))}`,
    )
    .join('\n')}\n`;
}

export interface Output {
  readonly format: Format;
  readonly style: Style;
  /** Width to fold human text to. */
  readonly width: number;
  /** Of the terminal; undefined: a pipe, in which nothing is folded or cut. */
  readonly columns: number | undefined;
  /** A list: a table for people, an array for machines. */
  table<Row>(rows: readonly Row[], columns: readonly Column<Row>[], none: string): Promise<void>;
  /** One thing: lines for people, an object for machines. */
  fields(value: unknown, fields: readonly (readonly [string, string])[]): Promise<void>;
  /** Machine form as it is; people get `text`. */
  either(value: unknown, text: () => string): Promise<void>;
  /** The text of a table or of fields, for a command that puts several together. */
  renderTable<Row>(rows: readonly Row[], columns: readonly Column<Row>[]): string;
  renderFields(fields: readonly (readonly [string, string])[]): string;
  /** One value a line for machines (JSON Lines, YAML documents), so that an endless list can be read. */
  line(value: unknown, text: () => string): Promise<void>;
}

export function createOutput(terminal: Terminal, format: Format, style: Style): Output {
  const machine = async (value: unknown) => {
    if (format === 'json') return terminal.data(`${JSON.stringify(value, null, 2)}\n`);
    const { stringify } = await import('./yaml-writer.ts');
    terminal.data(stringify(value, { lineWidth: 0, aliasDuplicateObjects: false }));
  };
  return {
    format,
    style,
    width: Math.min(terminal.columns ?? 80, 100),
    columns: terminal.columns,
    async table(rows, columns, none) {
      if (format !== 'table') return machine(rows);
      if (rows.length === 0) return terminal.note(none);
      terminal.data(renderTable(rows, columns, terminal.columns, style));
    },
    async fields(value, fields) {
      if (format !== 'table') return machine(value);
      terminal.data(renderFields(fields, terminal.columns, style));
    },
    async either(value, text) {
      if (format !== 'table') return machine(value);
      terminal.data(text());
    },
    renderTable: (rows, columns) => renderTable(rows, columns, terminal.columns, style),
    renderFields: (fields) => renderFields(fields, terminal.columns, style),
    async line(value, text) {
      if (format === 'json') return terminal.data(`${JSON.stringify(value)}\n`);
      if (format === 'table') return terminal.data(text());
      terminal.data('---\n');
      return machine(value);
    },
  };
}
