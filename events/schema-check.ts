import { type Static, type TSchema, Type } from 'typebox';
import { Compile, type Validator } from 'typebox/compile';
import { canonicalJson } from './canonical.ts';
import { EventIdField, HlcField, PeerIdField } from './catalogue/fields.ts';
import { CATALOGUE, type EventType, isKnownType } from './catalogue.ts';
import type { Actor, AnyEvent, Stream } from './envelope.ts';
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

const ACTORS: ReadonlySet<string> = new Set<Actor['kind']>(['client', 'recovery', 'peer', 'system']);

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

/**
 * Faults of the envelope of an event made here; empty when every other host would accept it. `ownId` when the log made the id
 * as well.
 */
export const draftFaults = (event: AnyEvent, ownId: boolean): readonly ErrorDetail[] =>
  ownId && isPlain(event) ? [] : faults(Given, event, '');

/** True of texts the schema cannot refuse, as nearly all are: one short loop where the schema runs a pattern for each. */
function isPlain({ entity, actor, correlation_id }: AnyEvent): boolean {
  return (
    isPlainText(entity) &&
    isPlainText(correlation_id) &&
    ACTORS.has(actor.kind) &&
    (actor.id === null || isPlainText(actor.id)) &&
    (actor.address === null || isPlainText(actor.address))
  );
}

function isPlainText(text: unknown): boolean {
  if (typeof text !== 'string' || text.length < 1 || text.length > 100) return false;
  for (let i = 0; i < text.length; i += 1) {
    const code = text.charCodeAt(i);
    if (code < 0x20 || code > 0x7e) return false;
  }
  return true;
}

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
