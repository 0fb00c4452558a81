import { Type } from 'typebox';
import { CustomerIdField, LicenseIdField, TimestampField } from './fields.ts';

/** `license.json` (SPEC section 4): `signature` is base64 Ed25519 over the RFC 8785 canonical JSON of the rest. */
export const LicenseDocument = Type.Object(
  {
    license_id: LicenseIdField,
    customer_id: CustomerIdField,
    issued_at: TimestampField,
    expires_at: TimestampField,
    max_nodes: Type.Integer({ minimum: 1, maximum: 100_000 }),
    max_services: Type.Integer({ minimum: 0, maximum: 10_000_000 }),
    features: Type.Array(Type.String({ maxLength: 64 }), { maxItems: 64 }),
    signature: Type.String({ pattern: '^[A-Za-z0-9+/]{86}==$' }),
  },
  { additionalProperties: false },
);

export const LicenseInstalled = Type.Object({ license: LicenseDocument }, { additionalProperties: false });

export const LicenseState = Type.Union([
  Type.Literal('valid'),
  Type.Literal('warning'),
  Type.Literal('grace'),
  Type.Literal('read_only'),
  Type.Literal('suspended'),
]);

export const LicenseStateChanged = Type.Object(
  { license_id: LicenseIdField, from: Type.Union([LicenseState, Type.Null()]), to: LicenseState },
  { additionalProperties: false },
);
