import { Type } from 'typebox';
import { AddressField, EventIdField, PeerIdField } from './fields.ts';

const strict = { additionalProperties: false } as const;
const Reconciler = Type.Union([
  Type.Literal('network'),
  Type.Literal('firewall'),
  Type.Literal('tproxy'),
  Type.Literal('iptun'),
]);
const Reason = Type.String({ maxLength: 2_000 });
const Digest = Type.String({ pattern: '^[0-9a-f]{64}$' });

export const AgentStarted = Type.Object(
  {
    version: Type.String({ maxLength: 40 }),
    node: Type.String({ maxLength: 40 }),
    kernel: Type.String({ maxLength: 100 }),
  },
  strict,
);
export const AgentStopped = Type.Object({ reason: Reason }, strict);
export const HandshakeSucceeded = Type.Object(
  { peer_id: PeerIdField, address: AddressField, initiator: Type.Boolean() },
  strict,
);
export const HandshakeFailed = Type.Object(
  {
    peer_id: Type.Union([PeerIdField, Type.Null()]),
    address: Type.Union([AddressField, Type.Null()]),
    reason: Reason,
  },
  strict,
);
export const PeerUnreachable = Type.Object({ peer_id: PeerIdField, reason: Reason }, strict);
export const PeerReachable = Type.Object({ peer_id: PeerIdField }, strict);
export const ClockSkewDetected = Type.Object({ peer_id: PeerIdField, skew_ms: Type.Integer() }, strict);
export const OriginQuarantined = Type.Object(
  { origin: PeerIdField, seq: Type.Integer({ minimum: 1 }), first: EventIdField, second: EventIdField },
  strict,
);

const Root = Type.String({ pattern: '^[A-Za-z0-9+/]{43}=$' });
export const CheckpointInconsistent = Type.Object(
  {
    origin: PeerIdField,
    /** Number of its events the checkpoint is about. */
    size: Type.Integer({ minimum: 1 }),
    /** Merkle root over the events held here, and the one that was signed. */
    held: Root,
    offered: Root,
    /** The signed note, which is the evidence. */
    note: Type.String({ maxLength: 4_096 }),
  },
  strict,
);

/** One thing that differs, as a path into the desired state and both values in words. */
export const Difference = Type.Object(
  {
    item: Type.String({ maxLength: 300 }),
    desired: Type.Union([Type.String({ maxLength: 1_000 }), Type.Null()]),
    observed: Type.Union([Type.String({ maxLength: 1_000 }), Type.Null()]),
  },
  strict,
);

export const ReconcileApplied = Type.Object(
  {
    reconciler: Reconciler,
    digest: Digest,
    position: Type.Integer({ minimum: 0 }),
    changes: Type.Integer({ minimum: 0 }),
  },
  strict,
);
export const ReconcileFailed = Type.Object(
  { reconciler: Reconciler, reason: Reason, position: Type.Integer({ minimum: 0 }) },
  strict,
);
export const DriftFound = Type.Object(
  {
    reconciler: Reconciler,
    /** At most 50; `total` counts them all. */
    differences: Type.Array(Difference, { maxItems: 50 }),
    total: Type.Integer({ minimum: 1 }),
    pid: Type.Union([Type.Integer(), Type.Null()]),
    program: Type.Union([Type.String({ maxLength: 64 }), Type.Null()]),
  },
  strict,
);
export const DriftRepaired = Type.Object(
  { reconciler: Reconciler, digest: Digest, total: Type.Integer({ minimum: 1 }) },
  strict,
);
export const RecoveryUsed = Type.Object(
  { method: Type.String({ maxLength: 10 }), path: Type.String({ maxLength: 500 }) },
  strict,
);
