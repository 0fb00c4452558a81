/** One growing buffer for a batch of netlink messages; lengths are patched when a message or nest ends. */
import { writeHost16, writeHost32 } from '../../native/byte-order.ts';

/** struct nlmsghdr: length u32, type u16, flags u16, sequence u32, port u32. */
export const MESSAGE_HEADER = 16;
/** struct nlattr: length u16, type u16. */
export const ATTRIBUTE_HEADER = 4;
export const NLA_F_NESTED = 0x8000;
/** The two top bits of an attribute type are flags (nested, network byte order). */
export const NLA_TYPE_MASK = 0x3fff;

/** Netlink aligns messages and attributes to 4 bytes. */
export function align4(length: number): number {
  return (length + 3) & ~3;
}

export class NetlinkWriter {
  #buffer: Buffer;
  #length = 0;

  constructor(capacity = 4096) {
    this.#buffer = Buffer.alloc(capacity);
  }

  get length(): number {
    return this.#length;
  }

  /** What was written, without copying; valid until the next write. */
  get bytes(): Buffer {
    return this.#buffer.subarray(0, this.#length);
  }

  /** Reserves `size` zeroed bytes and answers the buffer to fill at the returned offset. */
  reserve(size: number): { readonly buffer: Buffer; readonly offset: number } {
    const offset = this.#length;
    const needed = offset + size;
    if (needed > this.#buffer.length) {
      const grown = Buffer.alloc(Math.max(needed, this.#buffer.length * 2));
      this.#buffer.copy(grown, 0, 0, offset);
      this.#buffer = grown;
    }
    this.#length = needed;
    return { buffer: this.#buffer, offset };
  }

  beginMessage(type: number, flags: number, sequence: number): number {
    const { buffer, offset } = this.reserve(MESSAGE_HEADER);
    writeHost16(buffer, type, offset + 4);
    writeHost16(buffer, flags, offset + 6);
    writeHost32(buffer, sequence, offset + 8);
    return offset;
  }

  endMessage(start: number): void {
    writeHost32(this.#buffer, this.#length - start, start);
  }

  /** Raw bytes, padded to 4; for the fixed header after nlmsghdr. */
  raw(bytes: Uint8Array): void {
    const { buffer, offset } = this.reserve(align4(bytes.length));
    buffer.set(bytes, offset);
  }

  beginNest(type: number): number {
    const { buffer, offset } = this.reserve(ATTRIBUTE_HEADER);
    writeHost16(buffer, type | NLA_F_NESTED, offset + 2);
    return offset;
  }

  endNest(start: number): void {
    const length = this.#length - start;
    if (length > 0xffff)
      throw new RangeError(`netlink attribute of ${length} bytes; 65535 is the most a nest can hold`);
    writeHost16(this.#buffer, length, start);
  }

  /** Header of an attribute of `size` payload bytes; answers where the payload goes. */
  attribute(type: number, size: number): { readonly buffer: Buffer; readonly offset: number } {
    const { buffer, offset } = this.reserve(align4(ATTRIBUTE_HEADER + size));
    writeHost16(buffer, ATTRIBUTE_HEADER + size, offset);
    writeHost16(buffer, type, offset + 2);
    return { buffer, offset: offset + ATTRIBUTE_HEADER };
  }
}
