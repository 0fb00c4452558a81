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
export const ClosedPort = Type.Object(
  {
    protocol: Type.Union([Type.Literal('tcp'), Type.Literal('udp')]),
    port: Type.Integer({ minimum: 1, maximum: 65_535 }),
    direction: Type.Union([Type.Literal('out'), Type.Literal('in')], {
      description: 'Out: of the peer, closed to this host. In: of this host, closed to the peer.',
    }),
    host: Type.String({ description: 'The address that was tried.' }),
  },
  strict,
);
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
    forked_at: Nullable(
      Type.Integer({
        minimum: 1,
        description: 'Its key signed two histories: from its event of this number on nothing of it counts.',
      }),
    ),
    closed_ports: Type.Array(ClosedPort, {
      description: 'Ports that the traffic between this host and the peer needs and that are closed.',
    }),
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
