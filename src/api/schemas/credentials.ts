import { Type } from 'typebox';
import { Scope as ShortScope } from '../../../events/catalogue/credential.ts';
import { ClientIdField, LicenseIdField } from '../../../events/catalogue/fields.ts';
import { Nullable, SecretText, strict, Time, Version } from './fields.ts';

const credential = {
  client_id: ClientIdField,
  scopes: Type.Array(ShortScope),
  license_id: LicenseIdField,
  created_at: Time,
  last_used_at: Nullable(Time),
  version: Version,
};
export const Credential = Type.Object(credential, strict);
export const NewCredential = Type.Object({ ...credential, client_secret: SecretText }, strict);
export const CredentialParams = Type.Object({ client_id: ClientIdField }, strict);
export const CreateCredentialBody = Type.Object(
  {
    scopes: Type.Optional(Type.Array(Type.String({ maxLength: 60 }), { minItems: 1, maxItems: 14 })),
  },
  strict,
);
export const SharedCredential = Type.Object(
  { ...credential, previous_secret_valid_until: Nullable(Time) },
  strict,
);
export const RotatedCredential = Type.Object(
  { client_id: ClientIdField, client_secret: SecretText, previous_secret_valid_until: Time },
  strict,
);
