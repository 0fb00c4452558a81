import { Type } from 'typebox';
import { NameField, PeerIdField, ServiceIdField } from '../../../events/catalogue/fields.ts';
import { OnFailure, TransportType } from '../../../events/catalogue/service.ts';
import { CidrText, Nullable, strict, Time, Version } from './fields.ts';
import { Route } from './routes.ts';

export const ReconcileState = Type.Object(
  {
    state: Type.Union([Type.Literal('applied'), Type.Literal('pending'), Type.Literal('failed')]),
    reason: Nullable(Type.String()),
  },
  strict,
);
/** Over what its flows travel now, as the peer that is asked knows when it is the source. */
const CarriedBy = Type.Object(
  {
    transport: Type.Union([Type.Literal('tcp'), Type.Literal('kcp')]),
    reason: Type.String({ maxLength: 200 }),
    round_trip_ms: Nullable(Type.Number({ minimum: 0 })),
    loss_percent: Nullable(Type.Number({ minimum: 0, maximum: 100 })),
  },
  strict,
);
const Count = Type.Integer({ minimum: 0 });
/** The IP tunnel to the other end, as the peer that is asked has it; all services with that end share it. */
const TunnelTo = Type.Object(
  {
    peer_id: PeerIdField,
    device: Type.String({ maxLength: 15 }),
    endpoint: Nullable(Type.String({ description: 'Where the peer was last heard from, or is expected.' })),
    aead: Type.String(),
    mtu: Count,
    handshake_age_ms: Nullable(Type.Number({ minimum: 0 })),
    heard_ago_ms: Nullable(Type.Number({ minimum: 0 })),
    bytes_sent: Count,
    bytes_received: Count,
    datagrams_received: Count,
    datagrams_lost: Type.Integer({ minimum: 0, description: 'Of those the peer sent.' }),
  },
  strict,
);
export const Service = Type.Object(
  {
    id: ServiceIdField,
    name: NameField,
    source_peer_id: PeerIdField,
    target_peer_id: PeerIdField,
    transport_type: TransportType,
    requires_interface: Type.Boolean(),
    desired_ipv4_cidr: Nullable(CidrText),
    desired_ipv6_cidr: Nullable(CidrText),
    interface_name: Nullable(Type.String({ maxLength: 15 })),
    interface_ipv4_cidr: Nullable(CidrText),
    interface_ipv6_cidr: Nullable(CidrText),
    fully_transparent: Type.Boolean(),
    bandwidth_limit_mbps: Type.Number({ minimum: 0, description: 'Each direction; 0 is unlimited.' }),
    on_failure: OnFailure,
    route_count: Type.Integer({ minimum: 0 }),
    routes: Type.Array(Route),
    created_at: Time,
    updated_at: Time,
    version: Version,
    carried_by: Nullable(CarriedBy),
    tunnel: Nullable(TunnelTo),
    status: Type.Object(
      { network: ReconcileState, firewall: ReconcileState, tproxy: ReconcileState, iptun: ReconcileState },
      strict,
    ),
  },
  strict,
);
const serviceSettings = {
  name: Type.Optional(NameField),
  source_peer_id: Type.Optional(PeerIdField),
  transport_type: Type.Optional(TransportType),
  requires_interface: Type.Optional(Type.Boolean()),
  desired_ipv4_cidr: Type.Optional(Nullable(CidrText)),
  desired_ipv6_cidr: Type.Optional(Nullable(CidrText)),
  fully_transparent: Type.Optional(Type.Boolean()),
  bandwidth_limit_mbps: Type.Optional(Type.Number({ minimum: 0, maximum: 1_000_000 })),
  on_failure: Type.Optional(OnFailure),
};
export const ServiceParams = Type.Object({ id: ServiceIdField }, strict);
export const CreateServiceBody = Type.Object({ ...serviceSettings, target_peer_id: PeerIdField }, strict);
/** Of requests that change or delete what carries connections. */
export const FlowEffectQuery = Type.Object(
  {
    reset_flows: Type.Optional(
      Type.Boolean({
        description:
          'End the connections that were established by what is changed or deleted; by default they go on until they end by ' +
          'themselves. Those of a service that is deleted, or gets another source or target peer, end in any case.',
      }),
    ),
  },
  strict,
);
export const UpdateServiceBody = Type.Object(
  { ...serviceSettings, target_peer_id: Type.Optional(PeerIdField) },
  { ...strict, minProperties: 1 },
);
