import { isUtf8 } from 'node:buffer';
import type { LineFlaw } from '../events/audit-rows.ts';

/** Past this a line is not one we write; it bounds what a hostile file can make us hold. */
const LONGEST_LINE = 64 * 1024 * 1024;
const NEWLINE = 0x0a;
const NONE: ReadonlyMap<number, LineFlaw> = new Map();

export interface Lines {
  /** Without their `\n`. */
  readonly texts: readonly string[];
  /** What the texts no longer show, by their index. */
  readonly flaws: ReadonlyMap<number, LineFlaw>;
  /** How long they were. */
  readonly bytes: number;
}

/** Whole lines of a stream of bytes, many at a time. */
export async function* readLines(stream: AsyncIterable<Uint8Array | string>): AsyncGenerator<Lines> {
  let rest: Buffer[] = [];
  let held = 0;
  for await (const piece of stream) {
    const chunk = Buffer.from(piece as Uint8Array);
    const end = chunk.lastIndexOf(NEWLINE);
    if (end < 0) {
      rest.push(chunk);
      held += chunk.length;
      if (held > LONGEST_LINE) throw new Error(`it has a line of more than ${LONGEST_LINE} bytes`);
      continue;
    }
    const whole = Buffer.concat([...rest, chunk.subarray(0, end)]);
    rest = [chunk.subarray(end + 1)];
    held = chunk.length - end - 1;
    yield linesOf(whole, whole.length + 1);
  }
  // A last line that the end of the file cuts off is a line too.
  if (held === 0) return;
  const last = linesOf(Buffer.concat(rest), held);
  yield { ...last, flaws: new Map([[0, 'unended'], ...last.flaws]) };
}

function linesOf(whole: Buffer, bytes: number): Lines {
  const texts = whole.toString('utf8').split('\n');
  return { texts, flaws: isUtf8(whole) ? NONE : misspelt(whole), bytes };
}

/** Decoding puts U+FFFD in the place of bytes that are no UTF-8, which a text may have had there. */
function misspelt(whole: Buffer): ReadonlyMap<number, LineFlaw> {
  const flaws = new Map<number, LineFlaw>();
  for (let from = 0, index = 0; from <= whole.length; index += 1) {
    const newline = whole.indexOf(NEWLINE, from);
    const end = newline < 0 ? whole.length : newline;
    if (!isUtf8(whole.subarray(from, end))) flaws.set(index, 'encoding');
    from = end + 1;
  }
  return flaws;
}
