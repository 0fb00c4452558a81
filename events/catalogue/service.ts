import { Type } from 'typebox';
import { CidrField, NameField, PeerIdField } from './fields.ts';

/** `auto`: the entry measures the path and picks one of the others, anew as it changes. */
export const TransportType = Type.Union([Type.Literal('tcp'), Type.Literal('kcp'), Type.Literal('auto')]);
const OptionalCidr = Type.Union([CidrField, Type.Null()]);

const settings = {
  name: NameField,
  source_peer_id: PeerIdField,
  target_peer_id: PeerIdField,
  transport_type: TransportType,
  requires_interface: Type.Boolean(),
  desired_ipv4_cidr: OptionalCidr,
  desired_ipv6_cidr: OptionalCidr,
  fully_transparent: Type.Boolean(),
  /** Megabits (10^6) a second in each direction; 0 is unlimited. */
  bandwidth_limit_mbps: Type.Number({ minimum: 0, maximum: 1_000_000 }),
};
/** What becomes of captured connections while no engine takes them: sent on as if there were no service, or refused. */
export const OnFailure = Type.Union([Type.Literal('direct'), Type.Literal('reject')]);
/** Settings of later versions: events written before them do not carry them. */
const laterSettings = { on_failure: Type.Optional(OnFailure) };

export const ServiceCreated = Type.Object({ ...settings, ...laterSettings }, { additionalProperties: false });
/** Only the fields that changed; each is a last-writer-wins register of its own. */
export const ServiceUpdated = Type.Partial(Type.Object({ ...settings, ...laterSettings }), {
  additionalProperties: false,
  minProperties: 1,
});
/** Established connections between any of these pairs of prefixes are ended; null stands for any address. */
export const ServiceFlowsReset = Type.Object(
  {
    between: Type.Array(
      Type.Object({ source_cidr: OptionalCidr, dest_cidr: OptionalCidr }, { additionalProperties: false }),
      {
        minItems: 1,
        maxItems: 100,
      },
    ),
  },
  { additionalProperties: false },
);
export const ServiceDeleted = Type.Object({}, { additionalProperties: false });
