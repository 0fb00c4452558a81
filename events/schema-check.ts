import { type Static, type TSchema, Type } from 'typebox';
import { Compile, type Validator } from 'typebox/compile';
import { canonicalJson } from './canonical.ts';
import { EventIdField, HlcField, PeerIdField } from './catalogue/fields.ts';
import { CATALOGUE, type EventType, isKnownType } from './catalogue.ts';
import type { AnyEvent, Stream } from './envelope.ts';
import type { ErrorDetail } from './errors.ts';
import { upcast } from './upcast.ts';

/** Largest canonical data of one event, bytes. A page of 50 differences with their texts takes about 120 KiB. */
export const MAX_DATA_BYTES = 256 * 1024;
const MAX_DETAILS = 20;

const Hash = Type.String({ pattern: '^[0-9a-f]{64}$' });
/** Printable, no control characters: these texts end in logs and on terminals. */
const Line = (maxLength: number) =>
  Type.String({ minLength: 1, maxLength, pattern: '^[^\\u0000-\\u001f\\u007f]+$' });
const Nullable = <S extends TSchema>(schema: S) => Type.Union([schema, Type.Null()]);

export const ActorField = Type.Object(
  {
    kind: Type.Union([
      Type.Literal('client'),
      Type.Literal('recovery'),
      Type.Literal('peer'),
      Type.Literal('system'),
    ]),
    id: Nullable(Line(100)),
    address: Nullable(Line(100)),
  },
  { additionalProperties: false },
);

/** An event as it travels between peers and in exports. Every field is hashed, so an unknown one cannot be let through. */
export const EventEnvelope = Type.Object(
  {
    id: EventIdField,
    position: Type.Optional(Type.Integer({ minimum: 0 })),
    origin: PeerIdField,
    stream: Type.Union([Type.Literal('config'), Type.Literal('local')]),
    seq: Type.Integer({ minimum: 1, maximum: Number.MAX_SAFE_INTEGER }),
    hlc: HlcField,
    type: Type.String({ maxLength: 64, pattern: '^[a-z][a-z0-9_]*(\\.[a-z][a-z0-9_]*)+$' }),
    version: Type.Integer({ minimum: 1, maximum: 65_535 }),
    entity: Line(200),
    actor: ActorField,
    correlation_id: Line(100),
    data: Type.Record(Type.String(), Type.Unknown()),
    prev_hash: Hash,
    hash: Hash,
    signature: Nullable(Type.String({ pattern: '^[A-Za-z0-9+/]{86}==$' })),
  },
  { additionalProperties: false },
);
export type EventEnvelope = Static<typeof EventEnvelope>;

const checks = new Map<TSchema, Validator>();

/** Compiled on first use: a process that handles three types need not pay for all of them at start. */
function compiled(schema: TSchema): Validator {
  let check = checks.get(schema);
  if (check === undefined) {
    check = Compile(schema);
    checks.set(schema, check);
  }
  return check;
}

function faults(schema: TSchema, value: unknown, at: string): readonly ErrorDetail[] {
  const check = compiled(schema);
  if (check.Check(value)) return [];
  return check
    .Errors(value)
    .slice(0, MAX_DETAILS)
    .map((error) => ({ pointer: `${at}${error.instancePath}`, message: error.message }));
}

/** Faults of an envelope that came from outside, data excepted; empty when it is one. */
export const envelopeFaults = (value: unknown): readonly ErrorDetail[] => faults(EventEnvelope, value, '');

/** What an append is given for the envelope by its caller; the rest the log makes itself, in a form that cannot be wrong. */
const Given = Type.Pick(EventEnvelope, ['id', 'entity', 'actor', 'correlation_id'], {
  additionalProperties: true,
});

/** Faults of the envelope of an event made here; empty when every other host would accept it. */
export const draftFaults = (event: AnyEvent): readonly ErrorDetail[] => faults(Given, event, '');

/**
 * Faults of an event's data against the catalogue. A type we do not know, or a version newer than ours, comes from a
 * newer peer: it is kept, relayed and shown, and only has to be a JSON object of bounded size.
 */
export function dataFaults(
  type: string,
  version: number,
  data: unknown,
  dataText?: string,
): readonly ErrorDetail[] {
  if (typeof data !== 'object' || data === null || Array.isArray(data)) {
    return [{ pointer: '/data', message: 'must be an object' }];
  }
  const bytes = Buffer.byteLength(dataText ?? canonicalJson(data));
  if (bytes > MAX_DATA_BYTES) {
    return [{ pointer: '/data', message: `has ${bytes} bytes; at most ${MAX_DATA_BYTES} are allowed` }];
  }
  if (!isKnownType(type) || version > CATALOGUE[type].version) return [];
  const lifted = upcast(type, version, data as Readonly<Record<string, unknown>>);
  if (lifted === undefined)
    return [{ pointer: '/version', message: `${type} never had a version ${version}` }];
  return faults(CATALOGUE[type].schema, lifted, '/data');
}

/** The stream a type belongs to; undefined for a type we do not know. */
export const streamOf = (type: string): Stream | undefined =>
  isKnownType(type) ? CATALOGUE[type satisfies EventType].stream : undefined;
