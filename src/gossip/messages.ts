import { type Static, type TSchema, Type } from 'typebox';
import { Compile } from 'typebox/compile';
import {
  AddressField,
  ClusterIdField,
  CustomerIdField,
  EndpointField,
  LicenseIdField,
  NameField,
  PeerIdField,
  PublicKeyField,
} from '../../events/catalogue/fields.ts';
import { LicenseDocument } from '../../events/catalogue/license.ts';

/**
 * What two agents say to each other. Handshake messages are plain JSON and prove themselves by signatures; everything else is
 * JSON inside a sealed body. Unknown fields are let through so that a newer agent may say more; unknown kinds are refused.
 */
export const HANDSHAKE_PATH = '/v1/peer/handshake';
export const GOSSIP_PATH = '/v1/peer/gossip';

const Bytes32 = Type.String({ pattern: '^[A-Za-z0-9+/]{43}=$' });
const Signature = Type.String({ pattern: '^[A-Za-z0-9+/]{86}==$' });
const Time = Type.Integer({ minimum: 0, maximum: 281_474_976_710_655 });
const Seq = Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER });
const Hash = Type.String({ pattern: '^[0-9a-f]{64}$' });
const Sealed = Type.String({ minLength: 24, maxLength: 262_144, pattern: '^[A-Za-z0-9+/]+={0,2}$' });

const Party = Type.Object({
  peer_id: PeerIdField,
  public_key: PublicKeyField,
  customer_id: CustomerIdField,
  license_id: LicenseIdField,
  cluster_id: ClusterIdField,
  name: NameField,
  address: AddressField,
  endpoints: Type.Array(EndpointField, { maxItems: 16 }),
  version: Type.String({ maxLength: 40 }),
});

export const Hello = Type.Object({
  kind: Type.Literal('hello'),
  protocols: Type.Array(Type.Integer({ minimum: 1, maximum: 1_000 }), { minItems: 1, maxItems: 8 }),
  intent: Type.Union([Type.Literal('join'), Type.Literal('member')]),
  to: Type.Union([PeerIdField, Type.Null()]),
  challenge: Bytes32,
  ephemeral: Bytes32,
  time: Time,
  from: Party,
});
export type Hello = Static<typeof Hello>;

export const Answer = Type.Object({
  kind: Type.Literal('answer'),
  protocol: Type.Integer({ minimum: 1, maximum: 1_000 }),
  nonce: Bytes32,
  ephemeral: Bytes32,
  time: Time,
  from: Party,
  signature: Signature,
});
export type Answer = Static<typeof Answer>;

const SessionId = Type.String({ pattern: '^[0-9a-f]{32}$' });
/** `sealed` opens to `Credentials`: nobody on the path sees a license or a member list. */
export const Confirm = Type.Object({ kind: Type.Literal('confirm'), session: SessionId, sealed: Sealed });
export type Confirm = Static<typeof Confirm>;
export const Accepted = Type.Object({ kind: Type.Literal('accepted'), session: SessionId, sealed: Sealed });
export type Accepted = Static<typeof Accepted>;

/** The initiator's proof comes with its license; only then does the responder show its own. */
export const Credentials = Type.Object({
  /** Initiator only: the responder's signature stands in its answer. */
  signature: Type.Optional(Signature),
  license: LicenseDocument,
  /** Members of the sender's cluster, for the node cap over the union. */
  members: Type.Array(PeerIdField, { maxItems: 100_000 }),
  /** Last sequence number the sender holds of the receiver's own events (own-history rule). */
  holds: Seq,
});
export type Credentials = Static<typeof Credentials>;

/** `[origin, seq, hash of that event]` for every origin held. */
const Vector = Type.Array(Type.Tuple([PeerIdField, Seq, Hash]), { maxItems: 100_000 });
export type Vector = Static<typeof Vector>;

/** What every heartbeat says about its sender. */
const State = Type.Object({
  /** SHA-256 over the sender's vector: equal means both hold the same history. */
  digest: Hash,
  head: Seq,
  projection: Type.Union([Hash, Type.Null()]),
});
export type State = Static<typeof State>;

/**
 * Events of one origin, in order. `position` is the sender's own affair and does not travel. Only what gossip itself looks at
 * is checked here; the log judges the rest, so that an event of a newer agent does not cost the whole message.
 */
const TravellingEvent = Type.Object({
  seq: Type.Integer({ minimum: 1, maximum: Number.MAX_SAFE_INTEGER }),
  hash: Hash,
});
/** A signed note (events/signed-note.ts) with a few cosignatures at most. */
const Note = Type.String({ maxLength: 16_384 });
const Batch = Type.Object({
  origin: PeerIdField,
  events: Type.Array(TravellingEvent, { maxItems: 100_000 }),
});
export type Batch = Static<typeof Batch>;

/** A port of the data planes. */
const DataPortMessage = Type.Object({
  protocol: Type.Union([Type.Literal('tcp'), Type.Literal('udp')]),
  port: Type.Integer({ minimum: 1, maximum: 65_535 }),
});
export type DataPortMessage = Static<typeof DataPortMessage>;
const DataPorts = Type.Array(DataPortMessage, { maxItems: 8 });

export const Request = Type.Union([
  /** `recent`: digests the sender had a moment ago, so that a receiver who is only that far behind need not list what it holds. */
  Type.Object({
    kind: Type.Literal('ping'),
    state: State,
    recent: Type.Optional(Type.Array(Hash, { maxItems: 64 })),
  }),
  Type.Object({ kind: Type.Literal('push'), batches: Type.Array(Batch, { maxItems: 1_000 }) }),
  /** The sender's vector, or the part of it that has just changed: the receiver pulls what it lacks, at its own pace. */
  Type.Object({ kind: Type.Literal('offer'), vector: Vector }),
  Type.Object({
    kind: Type.Literal('pull'),
    /** Events of an origin after a sequence number. */
    wants: Type.Array(Type.Tuple([PeerIdField, Seq]), { maxItems: 1_000 }),
  }),
  Type.Object({ kind: Type.Literal('probe'), target: PeerIdField }),
  Type.Object({ kind: Type.Literal('probed'), target: PeerIdField }),
  /** The sender's newest checkpoint, to be compared and cosigned. */
  Type.Object({ kind: Type.Literal('witness'), note: Note }),
  /** Are the ports of the data planes open? With `found`, the sender's conclusion: closed from there to here, and from here to there. */
  Type.Object({
    kind: Type.Literal('reach'),
    token: SessionId,
    found: Type.Optional(Type.Object({ out: DataPorts, in: DataPorts })),
  }),
  Type.Object({ kind: Type.Literal('bye') }),
]);
export type Request = Static<typeof Request>;

export const Reply = Type.Union([
  /**
   * When the digests differ, the vector comes along; or only what was `added` since the receiver had the digest of the ping; or
   * nothing, when its own digest is among the recent ones of the ping, which tells the sender all.
   */
  Type.Object({
    kind: Type.Literal('pong'),
    state: State,
    vector: Type.Optional(Vector),
    added: Type.Optional(Vector),
  }),
  /** What the receiver holds now of the origins that were pushed. */
  Type.Object({ kind: Type.Literal('ack'), have: Type.Array(Type.Tuple([PeerIdField, Seq])) }),
  Type.Object({ kind: Type.Literal('events'), batches: Type.Array(Batch, { maxItems: 1_000 }) }),
  /** The checkpoint with the receiver's cosignature; null when it gives none (yet). */
  Type.Object({ kind: Type.Literal('witnessed'), note: Type.Union([Note, Type.Null()]) }),
  /** Ports of the sender of the question that the receiver does not reach (null: not known yet), and whether its token came in. */
  Type.Object({
    kind: Type.Literal('reached'),
    closed: Type.Union([DataPorts, Type.Null()]),
    heard: Type.Boolean(),
  }),
  /** `silent`: the peer that was asked to probe another has no answer of that one either. */
  Type.Object({ kind: Type.Literal('ok'), silent: Type.Optional(Type.Boolean()) }),
]);
export type Reply = Static<typeof Reply>;

const reader = <S extends TSchema>(schema: S) => {
  const check = Compile(schema);
  return (value: unknown): Static<S> | undefined => (check.Check(value) ? (value as Static<S>) : undefined);
};

export const readHello = reader(Hello);
export const readAnswer = reader(Answer);
export const readConfirm = reader(Confirm);
export const readAccepted = reader(Accepted);
export const readCredentials = reader(Credentials);
export const readRequest = reader(Request);
export const readReply = reader(Reply);

/** Parses a plain JSON body; undefined when it is none. */
export function parseJson(body: Uint8Array): unknown {
  try {
    return JSON.parse(Buffer.from(body.buffer, body.byteOffset, body.length).toString('utf8'));
  } catch {
    return undefined;
  }
}
