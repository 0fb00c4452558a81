import canonicalize from 'canonicalize';
import type { ArcticEvent } from './envelope.ts';
import { ArcticError } from './errors.ts';

/** The package is CommonJS whose export is the function itself; its types claim a `default` inside. */
const serialize = canonicalize as unknown as (value: unknown) => string | undefined;

/** Deeper than any event; bounds the stack a hostile document can use. */
const MAX_DEPTH = 32;

/**
 * RFC 8785 canonical JSON. Stricter than JSON.stringify: what has no faithful JSON form (NaN, lone surrogates, class
 * instances, functions, bigint) is refused with INVALID_REQUEST and a pointer to it instead of being bent into one.
 */
export function canonicalJson(value: unknown): string {
  assertJson(value, '', 0);
  const text = serialize(value);
  if (text === undefined) throw refusal('', 'has no JSON form');
  return text;
}

/** True when the text has no unpaired surrogate (String.prototype.isWellFormed is ES2024). */
const wellFormed = (text: string): boolean => !/\p{Surrogate}/u.test(text);

function assertJson(value: unknown, pointer: string, depth: number): void {
  switch (typeof value) {
    case 'string':
      if (!wellFormed(value)) throw refusal(pointer, 'holds an unpaired surrogate');
      return;
    case 'number':
      if (!Number.isFinite(value)) throw refusal(pointer, `is ${value}, which JSON cannot carry`);
      return;
    case 'boolean':
      return;
    case 'object':
      break;
    default:
      throw refusal(pointer, `is a ${typeof value}, which JSON cannot carry`);
  }
  if (value === null) return;
  if (depth >= MAX_DEPTH) throw refusal(pointer, `is nested deeper than ${MAX_DEPTH} levels`);
  if (Array.isArray(value)) {
    for (let i = 0; i < value.length; i += 1) assertJson(value[i], `${pointer}/${i}`, depth + 1);
    return;
  }
  const prototype = Object.getPrototypeOf(value);
  if (prototype !== Object.prototype && prototype !== null) throw refusal(pointer, 'is not a plain object');
  for (const [key, item] of Object.entries(value)) {
    // An absent optional field; canonicalize leaves it out too.
    if (item === undefined) continue;
    const at = `${pointer}/${key.replaceAll('~', '~0').replaceAll('/', '~1')}`;
    if (!wellFormed(key)) throw refusal(at, 'has an unpaired surrogate in its name');
    // canonicalize would call it; JSON data has no behaviour.
    if (typeof item === 'function') throw refusal(at, 'is a function, which JSON cannot carry');
    assertJson(item, at, depth + 1);
  }
}

const refusal = (pointer: string, what: string) =>
  new ArcticError(
    'INVALID_REQUEST',
    `cannot write canonical JSON: ${pointer === '' ? 'the value' : pointer} ${what}`,
    [{ pointer, message: what }],
  );

/** What the hash of an event covers: the envelope without `position`, `hash` and `signature`. */
export type HashedFields = Omit<ArcticEvent, 'position' | 'hash' | 'signature' | 'data' | 'type'> & {
  readonly type: string;
};

/**
 * The canonical JSON of an event's hashed fields, given the canonical JSON of its data. The keys stand here in RFC 8785
 * order, so nothing has to be sorted or walked; a property test holds this equal to `canonicalJson` of the whole.
 */
export function eventPreimage(event: HashedFields, dataText: string): string {
  const { actor } = event;
  return (
    `{"actor":{"address":${quoted(actor.address)},"id":${quoted(actor.id)},"kind":"${actor.kind}"}` +
    `,"correlation_id":${JSON.stringify(event.correlation_id)}` +
    `,"data":${dataText}` +
    `,"entity":${JSON.stringify(event.entity)}` +
    `,"hlc":${JSON.stringify(event.hlc)}` +
    `,"id":${JSON.stringify(event.id)}` +
    `,"origin":${JSON.stringify(event.origin)}` +
    `,"prev_hash":${JSON.stringify(event.prev_hash)}` +
    `,"seq":${event.seq}` +
    `,"stream":"${event.stream}"` +
    `,"type":${JSON.stringify(event.type)}` +
    `,"version":${event.version}}`
  );
}

const quoted = (text: string | null): string => (text === null ? 'null' : JSON.stringify(text));
