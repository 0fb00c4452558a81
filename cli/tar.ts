import { createReadStream } from 'node:fs';

/** POSIX.1-1988 ustar, as much of it as our archives need: regular files with short names. */
const BLOCK = 512;

export interface TarEntry {
  /** At most 100 bytes. */
  readonly name: string;
  readonly mode: number;
  /** Seconds since the epoch. */
  readonly mtime: number;
  readonly content: Uint8Array | { readonly path: string; readonly size: number };
}

const sizeOf = ({ content }: TarEntry): number => ('path' in content ? content.size : content.length);

function header(entry: TarEntry): Buffer {
  const name = Buffer.from(entry.name, 'utf8');
  if (name.length === 0 || name.length > 100) throw new RangeError(`a tar name of ${name.length} bytes`);
  const block = Buffer.alloc(BLOCK);
  const octal = (value: number, at: number, length: number) =>
    block.write(`${value.toString(8).padStart(length - 1, '0')}\0`, at, 'latin1');
  name.copy(block, 0);
  octal(entry.mode, 100, 8);
  octal(0, 108, 8);
  octal(0, 116, 8);
  octal(sizeOf(entry), 124, 12);
  octal(entry.mtime, 136, 12);
  block.fill(' ', 148, 156);
  block.write('0', 156, 'latin1');
  block.write('ustar\x0000', 257, 'latin1');
  block.write('root', 265, 'latin1');
  block.write('root', 297, 'latin1');
  const sum = block.reduce((total, byte) => total + byte, 0);
  block.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 'latin1');
  return block;
}

const padding = (size: number): Buffer => Buffer.alloc((BLOCK - (size % BLOCK)) % BLOCK);

/** The bytes of an archive. A file that grows while it is read is cut to the size it was announced with. */
export async function* writeTar(entries: Iterable<TarEntry>): AsyncGenerator<Uint8Array> {
  for (const entry of entries) {
    yield header(entry);
    const size = sizeOf(entry);
    if ('path' in entry.content) {
      let read = 0;
      for await (const chunk of createReadStream(entry.content.path, { end: Math.max(0, size - 1) })) {
        const bytes = chunk as Buffer;
        read += bytes.length;
        if (size > 0) yield bytes;
      }
      if (size > 0 && read !== size)
        throw new Error(`${entry.content.path} became shorter while it was read`);
    } else {
      yield entry.content;
    }
    yield padding(size);
  }
  yield Buffer.alloc(BLOCK * 2);
}

export interface TarFile {
  readonly name: string;
  readonly size: number;
  /** Has to be read to its end before the next file. */
  readonly content: AsyncIterable<Uint8Array>;
}

const text = (block: Buffer, at: number, length: number): string =>
  block.toString('utf8', at, at + length).replace(/\0.*$/s, '');

/** The files of an archive that `writeTar` made. Throws RangeError for anything else. */
export async function* readTar(source: AsyncIterable<Uint8Array>): AsyncGenerator<TarFile> {
  const chunks = source[Symbol.asyncIterator]();
  let held = Buffer.alloc(0);

  /** Up to `most` bytes; none at the end. */
  async function take(most: number): Promise<Buffer> {
    if (held.length === 0) {
      const next = await chunks.next();
      if (next.done === true) return held;
      held = Buffer.from(next.value);
    }
    const taken = held.subarray(0, most);
    held = held.subarray(taken.length);
    return taken;
  }
  async function exactly(size: number): Promise<Buffer> {
    const parts: Buffer[] = [];
    for (let left = size; left > 0; ) {
      const part = await take(left);
      if (part.length === 0) throw new RangeError('the archive ends in the middle');
      parts.push(part);
      left -= part.length;
    }
    return Buffer.concat(parts);
  }

  for (;;) {
    const block = await exactly(BLOCK);
    if (block.every((byte) => byte === 0)) return;
    const size = Number.parseInt(text(block, 124, 12), 8);
    const isFile = text(block, 257, 5) === 'ustar' && text(block, 156, 1) === '0';
    if (!isFile || !Number.isSafeInteger(size) || size < 0)
      throw new RangeError('this is not an archive of ours');
    let left = size;
    async function* content(): AsyncGenerator<Uint8Array> {
      while (left > 0) {
        const part = await take(left);
        if (part.length === 0) throw new RangeError('the archive ends in the middle');
        left -= part.length;
        yield part;
      }
    }
    yield { name: text(block, 0, 100), size, content: content() };
    await exactly(left + padding(size).length);
  }
}
