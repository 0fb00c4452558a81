import { Type } from 'typebox';
import { ClientIdField, LicenseIdField } from './fields.ts';

/** `sha256:` + base64url. The secret has 256 random bits, so a fast hash loses nothing (NIST SP 800-63B 5.1.1.2 is for passwords). */
export const SecretHash = Type.String({ pattern: '^sha256:[A-Za-z0-9_-]{43}$' });
export const Scope = Type.Union([
  Type.Literal('admin'),
  Type.Literal('peers.read'),
  Type.Literal('peers.write'),
  Type.Literal('services.read'),
  Type.Literal('services.write'),
  Type.Literal('credentials.read'),
  Type.Literal('credentials.write'),
]);

export const Credential = Type.Object(
  {
    client_id: ClientIdField,
    secret_hash: SecretHash,
    scopes: Type.Array(Scope, { minItems: 1, maxItems: 7 }),
    license_id: LicenseIdField,
    /** True for the one made at bootstrap, the shared credential of the cluster. */
    shared: Type.Boolean(),
  },
  { additionalProperties: false },
);

export const CredentialRotated = Type.Object(
  {
    secret_hash: SecretHash,
    /** Milliseconds since the epoch until which the previous secret is still taken. */
    previous_valid_until_ms: Type.Integer({ minimum: 0 }),
  },
  { additionalProperties: false },
);

export const CredentialRevoked = Type.Object({}, { additionalProperties: false });
export const CredentialUsed = Type.Object({ client_id: ClientIdField }, { additionalProperties: false });
