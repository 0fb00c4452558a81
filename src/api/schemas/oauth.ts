import { Type } from 'typebox';
import { PeerIdField } from '../../../events/catalogue/fields.ts';
import { strict } from './fields.ts';

export const TokenBody = Type.Object({
  grant_type: Type.String({ maxLength: 100 }),
  client_id: Type.Optional(Type.String({ maxLength: 100 })),
  client_secret: Type.Optional(Type.String({ maxLength: 200 })),
  scope: Type.Optional(Type.String({ maxLength: 1_000 })),
});
export const TokenAnswer = Type.Object(
  {
    access_token: Type.String(),
    token_type: Type.Literal('Bearer'),
    expires_in: Type.Integer(),
    scope: Type.String(),
  },
  strict,
);
export const KeySet = Type.Object(
  {
    keys: Type.Array(
      Type.Object(
        {
          kty: Type.Literal('OKP'),
          crv: Type.Literal('Ed25519'),
          x: Type.String(),
          kid: PeerIdField,
          alg: Type.Literal('EdDSA'),
          use: Type.Literal('sig'),
        },
        strict,
      ),
    ),
  },
  strict,
);
const Texts = Type.Array(Type.String());
export const ServerMetadata = Type.Object(
  {
    issuer: PeerIdField,
    token_endpoint: Type.String(),
    jwks_uri: Type.String(),
    grant_types_supported: Texts,
    response_types_supported: Texts,
    subject_types_supported: Texts,
    token_endpoint_auth_methods_supported: Texts,
    id_token_signing_alg_values_supported: Texts,
    scopes_supported: Texts,
  },
  strict,
);
