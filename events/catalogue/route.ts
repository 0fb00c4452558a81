import { Type } from 'typebox';
import { CidrField, ServiceIdField } from './fields.ts';

const Priority = Type.Integer({ minimum: 0, maximum: 65_535 });
const OptionalCidr = Type.Union([CidrField, Type.Null()]);

/** The entity is the route's key. `number` is the id people see; two hosts may propose one number at once (see views). */
export const RouteAdded = Type.Object(
  {
    service_id: ServiceIdField,
    number: Type.Integer({ minimum: 1 }),
    priority: Priority,
    source_cidr: OptionalCidr,
    dest_cidr: OptionalCidr,
  },
  { additionalProperties: false },
);

export const RouteUpdated = Type.Object(
  {
    service_id: ServiceIdField,
    priority: Type.Optional(Priority),
    source_cidr: Type.Optional(OptionalCidr),
    dest_cidr: Type.Optional(OptionalCidr),
  },
  { additionalProperties: false },
);

export const RouteDeleted = Type.Object({ service_id: ServiceIdField }, { additionalProperties: false });
