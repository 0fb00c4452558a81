import { Type } from 'typebox';
import {
  ClusterIdField,
  CustomerIdField,
  LicenseIdField,
  PeerIdField,
  PublicKeyField,
} from '../../../events/catalogue/fields.ts';
import { LicenseState } from '../../../events/catalogue/license.ts';
import { Nullable, strict, Time } from './fields.ts';
import { Peer } from './peers.ts';

export const ClusterIdentity = Type.Object(
  {
    peer_id: PeerIdField,
    public_key: PublicKeyField,
    license_id: LicenseIdField,
    cluster_id: ClusterIdField,
    version: Type.String(),
  },
  strict,
);
export const PeerStatus = Type.Object(
  {
    ...Peer.properties,
    membership: Type.String(),
    agent_version: Nullable(Type.String()),
    lag: Type.Integer({
      minimum: 0,
      description: 'Events held here that the peer, by its last word, lacks.',
    }),
    log_head: Nullable(Type.Integer()),
    projection_digest: Nullable(Type.String()),
    clock_skew_ms: Nullable(Type.Number()),
    changes_held_until: Nullable(Time, {
      description:
        "The peer's newest changes are dated in the future of the agent asked, which takes them then.",
    }),
  },
  strict,
);
export const Lock = Type.Object(
  {
    fence: Type.Integer({ minimum: 1 }),
    holder: Type.String(),
    purpose: Type.String(),
    expires_at: Time,
    peer_id: PeerIdField,
  },
  strict,
);
export const LockAnswer = Type.Object({ locked: Type.Boolean(), lock: Nullable(Lock) }, strict);
export const AcquireLockBody = Type.Object(
  {
    purpose: Type.Optional(
      Type.String({ minLength: 1, maxLength: 200, pattern: '^[^\\u0000-\\u001f\\u007f]+$' }),
    ),
    holder: Type.Optional(
      Type.String({ minLength: 1, maxLength: 200, pattern: '^[^\\u0000-\\u001f\\u007f]+$' }),
    ),
    ttl_seconds: Type.Optional(Type.Integer({ minimum: 5, maximum: 3_600 })),
  },
  strict,
);
const HealthCondition = Type.Object(
  {
    code: Type.String(),
    severity: Type.Union([Type.Literal('critical'), Type.Literal('warning'), Type.Literal('info')]),
    area: Type.String(),
    subject: Nullable(Type.String()),
    text: Type.String({ description: 'What is the matter.' }),
    remedy: Type.String({ description: 'What to do about it.' }),
  },
  strict,
);
export const ClusterStatus = Type.Object(
  {
    cluster_id: ClusterIdField,
    customer_id: CustomerIdField,
    name: Nullable(Type.String()),
    description: Nullable(Type.String()),
    created_at: Time,
    peer_id: PeerIdField,
    version: Type.String(),
    license_state: LicenseState,
    log_head: Type.Integer({ minimum: 0 }),
    projection_digest: Type.String(),
    lock: Nullable(Lock),
    conditions: Type.Array(HealthCondition, { description: 'Health conditions that hold, the worst first.' }),
    peers: Type.Array(PeerStatus),
  },
  strict,
);
export const InitBody = Type.Object({ force: Type.Optional(Type.Boolean()) }, strict);
export const InitAnswer = Type.Object({ cluster_id: ClusterIdField, initialised: Type.Boolean() }, strict);
export const Triggered = Type.Object({ triggered: Type.Literal(true) }, strict);
