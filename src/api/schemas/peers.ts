import { Type } from 'typebox';
import {
  AddressField,
  EndpointField,
  NameField,
  PeerIdField,
  PublicKeyField,
} from '../../../events/catalogue/fields.ts';
import { Nullable, strict, Time, Version } from './fields.ts';

export const ApiAccess = Type.Union([Type.Literal('open'), Type.Literal('internal')]);
export const Peer = Type.Object(
  {
    id: PeerIdField,
    name: NameField,
    public_key: PublicKeyField,
    is_local: Type.Boolean(),
    address: AddressField,
    endpoints: Type.Array(EndpointField),
    state: Type.Union(
      (['pending', 'active', 'unreachable', 'left', 'removed'] as const).map((one) => Type.Literal(one)),
    ),
    reason: Nullable(Type.String()),
    api_access: ApiAccess,
    last_seen_at: Nullable(Time),
    created_at: Time,
    version: Version,
  },
  strict,
);
export const PeerParams = Type.Object({ id: PeerIdField }, strict);
export const AddPeerBody = Type.Object({ address: AddressField, name: Type.Optional(NameField) }, strict);
export const UpdatePeerBody = Type.Object(
  {
    name: Type.Optional(NameField),
    address: Type.Optional(AddressField),
    endpoints: Type.Optional(Type.Array(EndpointField, { minItems: 1, maxItems: 16 })),
    api_access: Type.Optional(ApiAccess),
  },
  { ...strict, minProperties: 1 },
);
