import { Type } from 'typebox';
import { AddressField, NameField } from '../../events/catalogue/fields.ts';
import { MOST_MBPS, MOST_PRIORITY } from './document.ts';

const strict = { additionalProperties: false } as const;
/** A `${NAME}` may stand where a number or a boolean is wanted. */
const variable = Type.String({ pattern: '\\$\\{[^}]+\\}' });
const orVariable = <S extends import('typebox').TSchema>(schema: S, description: string) =>
  Type.Union([schema, variable], { description });
const name = (description: string) => Type.String({ ...NameField, maxLength: 200, description });
const cidr = (description: string, examples: readonly string[]) =>
  Type.Union([Type.String({ minLength: 1 }), Type.Null()], { description, examples: [...examples] });

const Route = Type.Object(
  {
    priority: orVariable(Type.Integer({ minimum: 0, maximum: MOST_PRIORITY }), 'Higher wins among equals.'),
    source_cidr: Type.Optional(cidr('Traffic from this network.', ['10.1.0.0/16', '2001:db8:1::/48'])),
    dest_cidr: Type.Optional(cidr('Traffic to this network.', ['192.168.100.0/24', '2001:db8:2::/48'])),
  },
  { ...strict, description: 'Which traffic takes the service; at least one of the two networks.' },
);

const Service = Type.Object(
  {
    name: name('Unique; renaming makes another service of it.'),
    source_peer: name('Peer where traffic enters, by name.'),
    target_peer: name('Peer where traffic leaves, by name.'),
    transport_type: Type.Optional(
      orVariable(
        Type.Union([Type.Literal('tcp'), Type.Literal('kcp'), Type.Literal('auto')]),
        'kcp for lossy links, auto to have the path measured; default tcp.',
      ),
    ),
    fully_transparent: Type.Optional(
      orVariable(Type.Boolean(), "The destination sees the client's address; needs tcp and an interface."),
    ),
    interface: Type.Optional(
      Type.Object(
        {
          enabled: orVariable(Type.Boolean(), 'Give the service an interface of its own on the source peer.'),
          ipv4: Type.Optional(cidr('Its IPv4 address.', ['10.1.0.5/24'])),
          ipv6: Type.Optional(cidr('Its IPv6 address.', ['2001:db8:1::5/64'])),
        },
        strict,
      ),
    ),
    qos: Type.Optional(
      Type.Object(
        {
          bandwidth_limit_mbps: Type.Optional(
            orVariable(
              Type.Number({ minimum: 0, maximum: MOST_MBPS }),
              'Mbit/s in each direction; 0 is unlimited.',
            ),
          ),
        },
        strict,
      ),
    ),
    on_failure: Type.Optional(
      orVariable(
        Type.Union([Type.Literal('direct'), Type.Literal('reject')]),
        'New connections while no agent takes them: sent on directly (the default), or refused.',
      ),
    ),
    routes: Type.Optional(Type.Array(Route)),
  },
  {
    ...strict,
    description: 'A path from a source peer to a target peer; it needs an enabled interface or a route.',
  },
);

const Peer = Type.Object(
  {
    name: name('Unique; services refer to it.'),
    address: Type.Union([AddressField, variable], {
      description: 'HOST:PORT by which the other peers reach its API.',
      examples: ['10.0.0.1:8080'],
    }),
    api_access: Type.Optional(
      orVariable(
        Type.Union([Type.Literal('open'), Type.Literal('internal')]),
        'internal: its API answers only its own recovery token. Default open.',
      ),
    ),
  },
  strict,
);

/** `cluster.yaml` v1 for editors: shape and bounds. What one value says of another is checked by `arctic compose validate`. */
export const ClusterFile = Type.Object(
  {
    version: Type.Literal('v1'),
    license: Type.Optional(
      Type.String({
        minLength: 1,
        description: 'License file for peers to bootstrap, relative to this file.',
      }),
    ),
    peers: Type.Array(Peer, { minItems: 1 }),
    services: Type.Optional(Type.Union([Type.Array(Service), Type.Null()])),
  },
  strict,
);

/** The published JSON Schema (2020-12). */
export const clusterSchema = () => ({
  $schema: 'https://json-schema.org/draft/2020-12/schema',
  $id: 'urn:tillered:arctic:schema:cluster:v1',
  title: 'Arctic cluster file, version v1',
  ...ClusterFile,
});
