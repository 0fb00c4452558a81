import { Type } from 'typebox';
import { ServiceIdField } from '../../../events/catalogue/fields.ts';
import { CidrText, Nullable, Priority, RouteNumber, strict, Time, Version } from './fields.ts';

export const Route = Type.Object(
  {
    id: RouteNumber,
    service_id: ServiceIdField,
    priority: Priority,
    source_cidr: Nullable(CidrText),
    dest_cidr: Nullable(CidrText),
    created_at: Time,
    version: Version,
  },
  strict,
);
export const RouteParams = Type.Object({ id: ServiceIdField, route_id: RouteNumber }, strict);
const RouteCidrs = {
  source_cidr: Type.Optional(Nullable(CidrText)),
  dest_cidr: Type.Optional(Nullable(CidrText)),
};
export const AddRoutesBody = Type.Object(
  {
    routes: Type.Array(Type.Object({ priority: Priority, ...RouteCidrs }, strict), {
      minItems: 1,
      maxItems: 10_000,
    }),
  },
  strict,
);
export const UpdateRouteBody = Type.Object(
  { priority: Type.Optional(Priority), ...RouteCidrs },
  { ...strict, minProperties: 1 },
);
export const RoutesAdded = Type.Object(
  { route_ids: Type.Array(RouteNumber), count: Type.Integer({ minimum: 1 }) },
  strict,
);
export const NewRoutes = Type.Array(Type.Object({ priority: Priority, ...RouteCidrs }, strict), {
  maxItems: 10_000,
});
