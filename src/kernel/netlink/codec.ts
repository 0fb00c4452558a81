/**
 * Netlink attributes described once: a schema drives encoding, decoding and the explanation of an error offset, and
 * the TypeScript types of the values are derived from it. Binary values are hex strings, so that decoded messages are
 * plain data that compares by value.
 */
import {
  readHost16,
  readHost32,
  readHost64,
  readHostInt32,
  writeHost16,
  writeHost32,
  writeHost64,
} from '../../native/byte-order.ts';
import { ATTRIBUTE_HEADER, align4, type NetlinkWriter, NLA_TYPE_MASK } from './writer.ts';

interface ScalarValues {
  u8: number;
  u16: number;
  u32: number;
  s32: number;
  u64: bigint;
  be16: number;
  be32: number;
  /** Signed, network byte order: verdict codes and hook priorities. */
  sbe32: number;
  be64: bigint;
  /** NUL-terminated. */
  str: string;
  /** Bytes as lower-case hex. */
  hex: string;
  flag: true;
}

export type Scalar = keyof ScalarValues;

/**
 * `[id, scalar]`, `[id, 'nest', schema]`, `[id, 'list', item]` (children that share the item's id), or
 * `[id, 'choice', key, schemas]`: a nest whose schema is named by the sibling attribute `key` (expression name, link kind).
 */
export type Attribute =
  | readonly [id: number, type: Scalar]
  | readonly [id: number, type: 'nest', schema: Schema]
  | readonly [id: number, type: 'list', item: Attribute]
  | readonly [id: number, type: 'choice', key: string, schemas: Readonly<Record<string, Schema>>];

export interface Schema {
  readonly [name: string]: Attribute;
}

type ValueOf<A> = A extends readonly [number, 'nest', infer S extends Schema]
  ? Of<S>
  : A extends readonly [number, 'list', infer Item]
    ? readonly ValueOf<Item>[]
    : A extends readonly [number, 'choice', ...unknown[]]
      ? Fields
      : A extends readonly [number, infer T extends Scalar]
        ? ScalarValues[T]
        : never;

/** The value a schema describes; every attribute may be absent. */
export type Of<S extends Schema> = { readonly [K in keyof S]?: ValueOf<S[K]> | undefined };

export type Fields = Readonly<Record<string, unknown>>;

/** Attributes the schema does not know, by id: newer kernels must not break decoding. */
export const UNKNOWN = '_unknown';
/** The bytes of a nest whose kind the schema does not know. */
export const RAW = '_raw';

const SIZES: Readonly<Record<Exclude<Scalar, 'str' | 'hex' | 'flag'>, number>> = {
  u8: 1,
  u16: 2,
  u32: 4,
  s32: 4,
  u64: 8,
  be16: 2,
  be32: 4,
  sbe32: 4,
  be64: 8,
};

/** Appends the attributes of `value` in the schema's order. Throws TypeError for a name or value the schema does not allow. */
export function encodeAttributes<S extends Schema>(writer: NetlinkWriter, schema: S, value: Of<S>): void {
  encodeFields(writer, schema, value as Fields, '');
}

const entries = new WeakMap<Schema, readonly [string, Attribute][]>();

/** Listed once for each schema: a table of 60 rules asks 1,000 times. */
function entriesOf(schema: Schema): readonly [string, Attribute][] {
  let list = entries.get(schema);
  if (list === undefined) {
    list = Object.entries(schema);
    entries.set(schema, list);
  }
  return list;
}

function encodeFields(writer: NetlinkWriter, schema: Schema, value: Fields, path: string): void {
  for (const name of Object.keys(value)) {
    if (!(name in schema)) throw new TypeError(`netlink: unknown attribute ${path}${name}`);
  }
  for (const [name, attribute] of entriesOf(schema)) {
    const field = value[name];
    if (field !== undefined) encodeOne(writer, attribute, field, value, `${path}${name}`);
  }
}

function encodeOne(
  writer: NetlinkWriter,
  attribute: Attribute,
  value: unknown,
  siblings: Fields,
  path: string,
): void {
  const [id, type] = attribute;
  switch (type) {
    case 'nest': {
      const start = writer.beginNest(id);
      encodeFields(writer, attribute[2], fieldsOf(value, path), `${path}.`);
      writer.endNest(start);
      return;
    }
    case 'list': {
      if (!Array.isArray(value)) throw new TypeError(`netlink: ${path} must be a list`);
      const start = writer.beginNest(id);
      value.forEach((item: unknown, index) => {
        encodeOne(writer, attribute[2], item, {}, `${path}[${index}]`);
      });
      writer.endNest(start);
      return;
    }
    case 'choice': {
      const kind = siblings[attribute[2]];
      const schema = typeof kind === 'string' ? attribute[3][kind] : undefined;
      if (schema === undefined) throw new TypeError(`netlink: ${path} has no schema for ${String(kind)}`);
      const start = writer.beginNest(id);
      encodeFields(writer, schema, fieldsOf(value, path), `${path}.`);
      writer.endNest(start);
      return;
    }
    default:
      encodeScalar(writer, id, type, value, path);
  }
}

function encodeScalar(writer: NetlinkWriter, id: number, type: Scalar, value: unknown, path: string): void {
  switch (type) {
    case 'flag':
      writer.attribute(id, 0);
      return;
    case 'str': {
      if (typeof value !== 'string' || value.includes('\0'))
        throw new TypeError(`netlink: ${path} must be text`);
      const size = Buffer.byteLength(value) + 1;
      const { buffer, offset } = writer.attribute(id, size);
      buffer.write(value, offset, 'utf8');
      return;
    }
    case 'hex': {
      if (typeof value !== 'string' || !/^(?:[0-9a-f]{2})*$/.test(value))
        throw new TypeError(`netlink: ${path} must be hex`);
      const { buffer, offset } = writer.attribute(id, value.length / 2);
      buffer.write(value, offset, 'hex');
      return;
    }
    case 'u64':
    case 'be64': {
      if (typeof value !== 'bigint') throw new TypeError(`netlink: ${path} must be a bigint`);
      const { buffer, offset } = writer.attribute(id, 8);
      if (type === 'u64') writeHost64(buffer, value, offset);
      else buffer.writeBigUInt64BE(value, offset);
      return;
    }
    default: {
      if (typeof value !== 'number' || !Number.isInteger(value))
        throw new TypeError(`netlink: ${path} must be an integer`);
      const { buffer, offset } = writer.attribute(id, SIZES[type]);
      writeNumber(buffer, offset, type, value);
    }
  }
}

type SmallNumber = 'u8' | 'u16' | 'u32' | 's32' | 'be16' | 'be32' | 'sbe32';

function writeNumber(buffer: Buffer, offset: number, type: SmallNumber, value: number): void {
  switch (type) {
    case 'u8':
      buffer.writeUInt8(value, offset);
      break;
    case 'u16':
      writeHost16(buffer, value, offset);
      break;
    case 'u32':
    case 's32':
      writeHost32(buffer, value, offset);
      break;
    case 'be16':
      buffer.writeUInt16BE(value, offset);
      break;
    case 'be32':
      buffer.writeUInt32BE(value, offset);
      break;
    case 'sbe32':
      buffer.writeInt32BE(value, offset);
      break;
  }
}

function fieldsOf(value: unknown, path: string): Fields {
  if (typeof value !== 'object' || value === null) throw new TypeError(`netlink: ${path} must be an object`);
  return value as Fields;
}

/** One attribute as it lies in a buffer. `start` and `end` bound its payload. */
export interface RawAttribute {
  readonly id: number;
  readonly at: number;
  readonly start: number;
  readonly end: number;
}

/** Walks the attributes between two offsets; ends quietly at bytes that are no attribute. */
export function* attributesIn(bytes: Buffer, from: number, to: number): Generator<RawAttribute> {
  let at = from;
  while (at + ATTRIBUTE_HEADER <= to) {
    const length = readHost16(bytes, at);
    if (length < ATTRIBUTE_HEADER || at + length > to) return;
    yield {
      id: readHost16(bytes, at + 2) & NLA_TYPE_MASK,
      at,
      start: at + ATTRIBUTE_HEADER,
      end: at + length,
    };
    at += align4(length);
  }
}

export function decodeAttributes<S extends Schema>(
  schema: S,
  bytes: Buffer,
  from = 0,
  to = bytes.length,
): Of<S> {
  return decodeFields(schema, bytes, from, to) as Of<S>;
}

function decodeFields(schema: Schema, bytes: Buffer, from: number, to: number): Fields {
  const fields: Record<string, unknown> = {};
  const known = namesOf(schema);
  const choices: {
    name: string;
    attribute: Attribute & readonly [number, 'choice', string, unknown];
    raw: RawAttribute;
  }[] = [];
  let unknown: Record<number, string> | undefined;
  for (const raw of attributesIn(bytes, from, to)) {
    const name = known.get(raw.id);
    const attribute = name === undefined ? undefined : schema[name];
    if (name === undefined || attribute === undefined) {
      unknown ??= {};
      unknown[raw.id] = bytes.toString('hex', raw.start, raw.end);
    } else if (attribute[1] === 'choice') {
      choices.push({ name, attribute, raw });
    } else {
      fields[name] = decodeOne(attribute, bytes, raw.start, raw.end);
    }
  }
  // After the siblings: the kind may follow the nest it names.
  for (const { name, attribute, raw } of choices) {
    const kind = fields[attribute[2]];
    const chosen = typeof kind === 'string' ? attribute[3][kind] : undefined;
    fields[name] =
      chosen === undefined
        ? { [RAW]: bytes.toString('hex', raw.start, raw.end) }
        : decodeFields(chosen, bytes, raw.start, raw.end);
  }
  if (unknown !== undefined) fields[UNKNOWN] = unknown;
  return fields;
}

const names = new WeakMap<Schema, ReadonlyMap<number, string>>();

function namesOf(schema: Schema): ReadonlyMap<number, string> {
  let known = names.get(schema);
  if (known === undefined) {
    known = new Map(Object.entries(schema).map(([name, attribute]) => [attribute[0], name]));
    names.set(schema, known);
  }
  return known;
}

function decodeOne(attribute: Attribute, bytes: Buffer, start: number, end: number): unknown {
  const type = attribute[1];
  if (type === 'nest') return decodeFields(attribute[2], bytes, start, end);
  if (type === 'list') {
    const item = attribute[2];
    const items: unknown[] = [];
    for (const raw of attributesIn(bytes, start, end)) {
      if (raw.id === item[0]) items.push(decodeOne(item, bytes, raw.start, raw.end));
    }
    return items;
  }
  if (type === 'choice') return { [RAW]: bytes.toString('hex', start, end) };
  return decodeScalar(type, bytes, start, end);
}

function decodeScalar(type: Scalar, bytes: Buffer, start: number, end: number): unknown {
  if (type === 'flag') return true;
  if (type === 'hex') return bytes.toString('hex', start, end);
  if (type === 'str') {
    const nul = bytes.indexOf(0, start);
    return bytes.toString('utf8', start, nul >= start && nul < end ? nul : end);
  }
  // A shorter payload than the type: keep the bytes rather than read past them.
  if (end - start < SIZES[type]) return bytes.toString('hex', start, end);
  switch (type) {
    case 'u8':
      return bytes.readUInt8(start);
    case 'u16':
      return readHost16(bytes, start);
    case 'u32':
      return readHost32(bytes, start);
    case 's32':
      return readHostInt32(bytes, start);
    case 'u64':
      return readHost64(bytes, start);
    case 'be16':
      return bytes.readUInt16BE(start);
    case 'be32':
      return bytes.readUInt32BE(start);
    case 'sbe32':
      return bytes.readInt32BE(start);
    case 'be64':
      return bytes.readBigUInt64BE(start);
  }
}

/**
 * Names the attribute that lies at `offset` of a sent message, as `expressions[1].data.sreg`; undefined when none
 * does. The kernel points there with NLMSGERR_ATTR_OFFS.
 */
export function explainOffset(
  schema: Schema,
  bytes: Buffer,
  from: number,
  to: number,
  offset: number,
): string | undefined {
  const known = namesOf(schema);
  for (const raw of attributesIn(bytes, from, to)) {
    if (offset < raw.at || offset >= raw.end) continue;
    const name = known.get(raw.id);
    const attribute = name === undefined ? undefined : schema[name];
    if (name === undefined || attribute === undefined) return `attribute ${raw.id}`;
    if (offset === raw.at) return name;
    const inner = explainInside(attribute, schema, bytes, from, to, raw, offset);
    return inner === undefined ? name : `${name}${inner}`;
  }
  return undefined;
}

function explainInside(
  attribute: Attribute,
  schema: Schema,
  bytes: Buffer,
  from: number,
  to: number,
  raw: RawAttribute,
  offset: number,
): string | undefined {
  if (attribute[1] === 'nest') return dotted(explainOffset(attribute[2], bytes, raw.start, raw.end, offset));
  if (attribute[1] === 'choice') {
    const key = schema[attribute[2]];
    const sibling = [...attributesIn(bytes, from, to)].find((other) => other.id === key?.[0]);
    const kind = sibling === undefined ? undefined : decodeScalar('str', bytes, sibling.start, sibling.end);
    const chosen = typeof kind === 'string' ? attribute[3][kind] : undefined;
    return chosen === undefined
      ? undefined
      : dotted(explainOffset(chosen, bytes, raw.start, raw.end, offset));
  }
  if (attribute[1] === 'list') {
    const items = [...attributesIn(bytes, raw.start, raw.end)];
    const index = items.findIndex((item) => offset >= item.at && offset < item.end);
    const item = items[index];
    if (item === undefined) return undefined;
    if (offset === item.at) return `[${index}]`;
    return `[${index}]${explainInside(attribute[2], schema, bytes, raw.start, raw.end, item, offset) ?? ''}`;
  }
  return undefined;
}

function dotted(path: string | undefined): string | undefined {
  return path === undefined ? undefined : `.${path}`;
}

/** The schema's name for attribute `id`, for NLMSGERR_ATTR_MISS_TYPE. */
export function attributeName(schema: Schema, id: number): string {
  return namesOf(schema).get(id) ?? `attribute ${id}`;
}
