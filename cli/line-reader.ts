/** Past this a line is not one we write; it bounds what a hostile file can make us hold. */
const LONGEST_LINE = 64 * 1024 * 1024;
const NEWLINE = 0x0a;

/** Whole lines of a stream of bytes, without their `\n`, many at a time, with how many bytes they were. */
export async function* readLines(
  stream: AsyncIterable<Uint8Array | string>,
): AsyncGenerator<{ readonly texts: readonly string[]; readonly bytes: number }> {
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
    yield { texts: whole.toString('utf8').split('\n'), bytes: whole.length + 1 };
  }
  // A last line that the end of the file cuts off is a line too.
  if (held > 0) yield { texts: [Buffer.concat(rest).toString('utf8')], bytes: held };
}
