/**
 * Set elements by the 100,000: a writer and a reader made by hand, because the schema-driven ones cost some 20 times
 * as much per element. Layout: nest 1 { KEY 1 { VALUE 1 }, DATA 2 { VALUE 1 } }.
 */
import { readHost16, writeHost16 } from '../../native/byte-order.ts';
import { KernelError, type NftElement } from '../contract.ts';
import {
  ATTRIBUTE_HEADER,
  align4,
  type NetlinkWriter,
  NLA_F_NESTED,
  NLA_TYPE_MASK,
} from '../netlink/writer.ts';

const NFTA_LIST_ELEM = 1;
const NFTA_SET_ELEM_KEY = 1;
const NFTA_SET_ELEM_DATA = 2;
const NFTA_SET_ELEM_FLAGS = 3;
const NFTA_SET_ELEM_KEY_END = 10;
const NFTA_DATA_VALUE = 1;
const NFTA_SET_ELEM_LIST_ELEMENTS = 3;

/** A nest's length is a u16; the rest of the 64 KiB is room for the message's other attributes. */
const MOST_BYTES = 60_000;

export interface ElementLayout {
  /** Bytes. */
  readonly keyLength: number;
  /** Bytes; undefined for a set without values. */
  readonly dataLength: number | undefined;
}

/** Bytes of one encoded element. */
export function elementSize(layout: ElementLayout): number {
  const value = (length: number) => 2 * ATTRIBUTE_HEADER + align4(length);
  return (
    ATTRIBUTE_HEADER +
    value(layout.keyLength) +
    (layout.dataLength === undefined ? 0 : value(layout.dataLength))
  );
}

/** How many elements one message may hold. */
export function elementsPerMessage(layout: ElementLayout): number {
  return Math.floor(MOST_BYTES / elementSize(layout));
}

const templates = new Map<string, Buffer>();

/** The constant bytes of an element: its six attribute headers with zeros in place of key and value. */
function template(layout: ElementLayout): Buffer {
  const kind = `${layout.keyLength}:${layout.dataLength}`;
  let bytes = templates.get(kind);
  if (bytes === undefined) {
    bytes = makeTemplate(layout);
    templates.set(kind, bytes);
  }
  return bytes;
}

function makeTemplate(layout: ElementLayout): Buffer {
  const bytes = Buffer.alloc(elementSize(layout));
  const head = (at: number, length: number, type: number) => {
    writeHost16(bytes, length, at);
    writeHost16(bytes, type, at + 2);
  };
  head(0, bytes.length, NFTA_LIST_ELEM | NLA_F_NESTED);
  // A nest's own length counts its last child's padding (libnftnl writes it so).
  const value = (at: number, type: number, length: number) => {
    head(at, 2 * ATTRIBUTE_HEADER + align4(length), type | NLA_F_NESTED);
    head(at + ATTRIBUTE_HEADER, ATTRIBUTE_HEADER + length, NFTA_DATA_VALUE);
    return at + 2 * ATTRIBUTE_HEADER + align4(length);
  };
  const next = value(ATTRIBUTE_HEADER, NFTA_SET_ELEM_KEY, layout.keyLength);
  if (layout.dataLength !== undefined) value(next, NFTA_SET_ELEM_DATA, layout.dataLength);
  return bytes;
}

/** Appends NFTA_SET_ELEM_LIST_ELEMENTS with `elements[from..to)`. Throws KernelError EINVAL for a key or value of another length. */
export function writeElements(
  writer: NetlinkWriter,
  layout: ElementLayout,
  set: string,
  elements: readonly NftElement[],
  from: number,
  to: number,
): void {
  const pattern = template(layout);
  const size = pattern.length;
  const nest = writer.beginNest(NFTA_SET_ELEM_LIST_ELEMENTS);
  const { buffer, offset } = writer.reserve(size * (to - from));
  const keyAt = 3 * ATTRIBUTE_HEADER;
  const dataAt = keyAt + align4(layout.keyLength) + 2 * ATTRIBUTE_HEADER;
  let at = offset;
  for (let index = from; index < to; index += 1) {
    const element = elements[index];
    if (element === undefined) continue;
    buffer.set(pattern, at);
    if (
      element.key.length !== layout.keyLength * 2 ||
      buffer.write(element.key, at + keyAt, 'hex') !== layout.keyLength
    ) {
      throw malformed(set, element, `the key must be ${layout.keyLength} bytes of hex`);
    }
    if (layout.dataLength !== undefined) {
      const data = element.data;
      if (
        data?.length !== layout.dataLength * 2 ||
        buffer.write(data, at + dataAt, 'hex') !== layout.dataLength
      ) {
        throw malformed(set, element, `the value must be ${layout.dataLength} bytes of hex`);
      }
    } else if (element.data !== undefined) {
      throw malformed(set, element, 'the set holds no values');
    }
    at += size;
  }
  writer.endNest(nest);
}

function malformed(set: string, element: NftElement, text: string): KernelError {
  return new KernelError('EINVAL', 22, `element ${elementText(element)} of set ${set}`, text);
}

/** `0a000000 -> 00010000`. */
export function elementText(element: NftElement): string {
  return element.data === undefined ? element.key : `${element.key} -> ${element.data}`;
}

/**
 * Hands on the elements of one NEWSETELEM message (attributes between the offsets). An interval of another
 * program reads as `key-end`, its end marker as `key!`, a verdict as `verdict:` and its bytes: none equals one of ours.
 */
type OnElement = (element: NftElement) => void;

export function readElements(bytes: Buffer, from: number, to: number, onElement: OnElement): void {
  for (let at = from; at + ATTRIBUTE_HEADER <= to; ) {
    const length = readHost16(bytes, at);
    if (length < ATTRIBUTE_HEADER || at + length > to) return;
    if ((readHost16(bytes, at + 2) & NLA_TYPE_MASK) === NFTA_SET_ELEM_LIST_ELEMENTS) {
      readList(bytes, at + ATTRIBUTE_HEADER, at + length, onElement);
    }
    at += align4(length);
  }
}

function readList(bytes: Buffer, from: number, to: number, onElement: OnElement): void {
  for (let at = from; at + ATTRIBUTE_HEADER <= to; ) {
    const length = readHost16(bytes, at);
    if (length < ATTRIBUTE_HEADER || at + length > to) return;
    onElement(readElement(bytes, at + ATTRIBUTE_HEADER, at + length));
    at += align4(length);
  }
}

function readElement(bytes: Buffer, from: number, to: number): NftElement {
  let key = '';
  let data: string | undefined;
  let suffix = '';
  for (let at = from; at + ATTRIBUTE_HEADER <= to; ) {
    const length = readHost16(bytes, at);
    if (length < ATTRIBUTE_HEADER || at + length > to) break;
    switch (readHost16(bytes, at + 2) & NLA_TYPE_MASK) {
      case NFTA_SET_ELEM_KEY:
        key = readData(bytes, at + ATTRIBUTE_HEADER, at + length);
        break;
      case NFTA_SET_ELEM_DATA:
        data = readData(bytes, at + ATTRIBUTE_HEADER, at + length);
        break;
      case NFTA_SET_ELEM_KEY_END:
        suffix += `-${readData(bytes, at + ATTRIBUTE_HEADER, at + length)}`;
        break;
      case NFTA_SET_ELEM_FLAGS:
        if (bytes.readUInt32BE(at + ATTRIBUTE_HEADER) !== 0) suffix += '!';
        break;
    }
    at += align4(length);
  }
  return data === undefined ? { key: key + suffix } : { key: key + suffix, data };
}

function readData(bytes: Buffer, start: number, end: number): string {
  const length = readHost16(bytes, start);
  const type = readHost16(bytes, start + 2) & NLA_TYPE_MASK;
  if (type === NFTA_DATA_VALUE)
    return bytes.toString('hex', start + ATTRIBUTE_HEADER, Math.min(end, start + length));
  return `verdict:${bytes.toString('hex', start, end)}`;
}
