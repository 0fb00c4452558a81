import { type TProperties, Type } from 'typebox';
import { NameField, PeerIdField, ServiceIdField } from '../../../events/catalogue/fields.ts';
import { RouteNumber, strict } from './fields.ts';
import { UpdatePeerBody } from './peers.ts';
import { NewRoutes, UpdateRouteBody } from './routes.ts';
import { CreateServiceBody, UpdateServiceBody } from './services.ts';

const changeOf = <K extends string, P extends TProperties>(kind: K, fields: P) =>
  Type.Object({ kind: Type.Literal(kind), ...fields }, strict);
export const Change = Type.Union([
  changeOf('update_peer', { id: PeerIdField, ...UpdatePeerBody.properties }),
  changeOf('create_service', {
    ...CreateServiceBody.properties,
    routes: Type.Optional(NewRoutes),
  }),
  changeOf('update_service', { id: ServiceIdField, ...UpdateServiceBody.properties }),
  changeOf('delete_service', { id: ServiceIdField }),
  changeOf('add_routes', { service_id: ServiceIdField, routes: NewRoutes }),
  changeOf('update_route', { service_id: ServiceIdField, id: RouteNumber, ...UpdateRouteBody.properties }),
  changeOf('delete_route', { service_id: ServiceIdField, id: RouteNumber }),
]);
export const ChangesBody = Type.Object(
  { changes: Type.Array(Change, { minItems: 1, maxItems: 10_000 }) },
  strict,
);
export const ChangesAnswer = Type.Object(
  {
    count: Type.Integer({ minimum: 0, description: 'Events that were appended, in one transaction.' }),
    services: Type.Array(Type.Object({ id: ServiceIdField, name: NameField }, strict), {
      description: 'Those that were created, in the order of the changes.',
    }),
  },
  strict,
);
