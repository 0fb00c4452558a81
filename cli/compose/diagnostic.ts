import { LineCounter } from 'yaml';
import { displayWidth } from '../output.ts';
import { printable } from '../terminal.ts';

/** Part of a text, as offsets; `end` is the first character behind it. */
export interface Range {
  readonly start: number;
  readonly end: number;
}

/** One fault of a compose file. */
export interface Fault {
  readonly at: Range;
  /** Without a full stop. */
  readonly message: string;
}

export interface Source {
  /** As the person typed it. */
  readonly path: string;
  readonly text: string;
  readonly lines: LineCounter;
}

/** A fault with its place, counted from 1 in characters, as editors do. */
export interface Diagnostic {
  readonly file: string;
  readonly line: number;
  readonly column: number;
  readonly message: string;
}

/** Widest part of a source line that is shown. */
const SHOWN = 110;

/** A source whose lines are known, also where the YAML parser gave up in the middle. */
export function createSource(path: string, text: string): Source {
  const lines = new LineCounter();
  lines.addNewLine(0);
  for (let at = text.indexOf('\n'); at >= 0; at = text.indexOf('\n', at + 1)) lines.addNewLine(at + 1);
  return { path, text, lines };
}

const lineAt = (source: Source, offset: number) => {
  const { line, col } = source.lines.linePos(Math.min(Math.max(0, offset), source.text.length));
  const number = Math.max(1, line);
  const start = source.lines.lineStarts[number - 1] ?? 0;
  const end = source.text.indexOf('\n', start);
  const text = source.text.slice(start, end < 0 ? undefined : end).replace(/\r$/, '');
  return { number, text, before: text.slice(0, Math.max(0, col - 1)) };
};

export function locate(source: Source, fault: Fault): Diagnostic {
  const { number, before } = lineAt(source, fault.at.start);
  return { file: source.path, line: number, column: [...before].length + 1, message: fault.message };
}

const visible = (text: string): string => printable(text.replaceAll('\t', ' '));

/** `FILE:LINE:COLUMN: what is wrong`, and below it the line with a caret under the place. */
export function renderFault(source: Source, fault: Fault): string {
  const { line, column, message } = locate(source, fault);
  const { number, text, before } = lineAt(source, fault.at.start);
  const head = `${source.path}:${line}:${column}: ${visible(message)}${/[.?]$/.test(message) ? '' : '.'}`;
  // Of a very long line the part around the place is shown.
  const cutBefore = text.length > SHOWN ? Math.max(0, before.length - SHOWN / 2) : 0;
  const shown = visible(text.slice(cutBefore, cutBefore + SHOWN));
  const lead = visible(before.slice(cutBefore));
  const wanted = Math.max(1, fault.at.end - fault.at.start);
  const marked = visible(text.slice(before.length, before.length + wanted)).slice(0, SHOWN - lead.length);
  const gutter = String(number).padStart(5);
  const carets = '^'.repeat(Math.max(1, displayWidth(marked.trimEnd())));
  return `${head}\n${gutter} | ${shown}\n      | ${' '.repeat(displayWidth(lead))}${carets}`;
}
