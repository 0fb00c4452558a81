import { Type } from 'typebox';
import {
  AddressField,
  ClusterIdField,
  EndpointField,
  EventIdField,
  LicenseIdField,
  NameField,
  PeerIdField,
  PublicKeyField,
} from './fields.ts';

const ApiAccess = Type.Union([Type.Literal('open'), Type.Literal('internal')]);

/** Written by the peer itself at its bootstrap; its origin is the peer. */
export const PeerRegistered = Type.Object(
  {
    peer_id: PeerIdField,
    public_key: PublicKeyField,
    name: NameField,
    address: AddressField,
    endpoints: Type.Array(EndpointField, { maxItems: 16 }),
    api_access: ApiAccess,
    cluster_id: ClusterIdField,
    license_id: LicenseIdField,
    version: Type.String({ maxLength: 40 }),
  },
  { additionalProperties: false },
);

/** Written by the member that shook hands with it. The key here is what every member pins for that origin. */
export const PeerAdmitted = Type.Object(
  {
    peer_id: PeerIdField,
    public_key: PublicKeyField,
    name: Type.Union([NameField, Type.Null()]),
    address: AddressField,
    endpoints: Type.Array(EndpointField, { maxItems: 16 }),
    /**
     * The `peer.left` and `peer.removed` events this admission undoes (`departures` of the peer's view). A departure that no
     * admission names stands for good, so a removed peer never comes back silently or by a race of clocks.
     */
    readmits: Type.Optional(Type.Array(EventIdField, { maxItems: 64 })),
  },
  { additionalProperties: false },
);

export const PeerUpdated = Type.Object(
  {
    name: Type.Optional(NameField),
    address: Type.Optional(AddressField),
    endpoints: Type.Optional(Type.Array(EndpointField, { maxItems: 16 })),
    api_access: Type.Optional(ApiAccess),
    version: Type.Optional(Type.String({ maxLength: 40 })),
  },
  { additionalProperties: false },
);

export const PeerLeft = Type.Object({ peer_id: PeerIdField }, { additionalProperties: false });

/** One of two events under one number: with `body` (the hashed bytes) and the origin's signature over its hash it proves itself. */
const Branch = Type.Object(
  {
    id: EventIdField,
    hash: Type.String({ pattern: '^[0-9a-f]{64}$' }),
    /** Null: the event is not the last of its transaction, or its bytes are too many; the member that found the fork keeps them. */
    body: Type.Union([Type.String({ maxLength: 16_384 }), Type.Null()]),
    signature: Type.Union([Type.String({ pattern: '^[A-Za-z0-9+/]{86}==$' }), Type.Null()]),
  },
  { additionalProperties: false },
);

/**
 * Written by a member that holds one history of a peer and was offered another. From `seq` on nothing of that peer counts,
 * whichever of the two a host holds: the lowest number any member gave is where its history ends everywhere.
 */
export const PeerForked = Type.Object(
  { peer_id: PeerIdField, seq: Type.Integer({ minimum: 1 }), first: Branch, second: Branch },
  { additionalProperties: false },
);

export const PeerRemoved = Type.Object(
  {
    peer_id: PeerIdField,
    /** Last `config` sequence number of the removed peer that stands; later ones are refused everywhere. */
    last_seq: Type.Integer({ minimum: 0 }),
    /**
     * Removals this one only completes: a member that held later events of the peer when it learned of the removal says so, and
     * everybody takes them in. It is undone together with them.
     */
    extends: Type.Optional(Type.Array(EventIdField, { minItems: 1, maxItems: 64 })),
  },
  { additionalProperties: false },
);
