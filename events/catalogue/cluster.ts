import { Type } from 'typebox';
import { ClusterIdField, CustomerIdField, NameField } from './fields.ts';

export const ClusterCreated = Type.Object(
  {
    cluster_id: ClusterIdField,
    customer_id: CustomerIdField,
    name: Type.Union([NameField, Type.Null()]),
    description: Type.Union([Type.String({ maxLength: 500 }), Type.Null()]),
  },
  { additionalProperties: false },
);

export const ClusterInitialised = Type.Object(
  { cluster_id: ClusterIdField, forced: Type.Boolean() },
  { additionalProperties: false },
);

export const ClusterLockAcquired = Type.Object(
  {
    /** Grows with every grant; a write fenced with an older one is refused. */
    fence: Type.Integer({ minimum: 1 }),
    holder: Type.String({ maxLength: 200 }),
    purpose: Type.String({ maxLength: 200 }),
    /** Milliseconds since the epoch. */
    expires_at_ms: Type.Integer({ minimum: 0 }),
  },
  { additionalProperties: false },
);

export const ClusterLockReleased = Type.Object(
  { fence: Type.Integer({ minimum: 1 }), broken: Type.Boolean() },
  { additionalProperties: false },
);
