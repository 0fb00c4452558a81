import { Type } from 'typebox';
import type { PeerId, ServiceId } from '../../events/brand.ts';
import { PeerIdField } from '../../events/catalogue/fields.ts';
import type { FlowEffect } from '../commands/flows.ts';
import {
  decideCreateService,
  decideDeleteService,
  decideUpdateService,
  requireService,
  type ServiceSettings,
} from '../commands/services.ts';
import { type ApiContext, type App, commandOf, documented, etag } from './context.ts';
import { PagingQuery, pageOf } from './paging.ts';
import { serviceResource } from './resources.ts';
import { listOf } from './schemas/fields.ts';
import {
  CreateServiceBody,
  FlowEffectQuery,
  Service,
  ServiceParams,
  UpdateServiceBody,
} from './schemas/services.ts';

const ListQuery = Type.Object(
  {
    ...PagingQuery,
    source_peer_id: Type.Optional(PeerIdField),
    target_peer_id: Type.Optional(PeerIdField),
    requires_interface: Type.Optional(Type.Boolean()),
  },
  { additionalProperties: false },
);

export function serviceRoutes(app: App, context: ApiContext): void {
  const { views, executor } = context;

  app.get(
    '/v1/services',
    { schema: documented({ querystring: ListQuery }, { 200: listOf('services', Service) }) },
    (request) => {
      const { source_peer_id, target_peer_id, requires_interface } = request.query;
      const wanted = views.services
        .list()
        .filter(
          (service) =>
            (source_peer_id ?? service.source_peer_id) === service.source_peer_id &&
            (target_peer_id ?? service.target_peer_id) === service.target_peer_id &&
            (requires_interface ?? service.requires_interface) === service.requires_interface,
        );
      const { items, next_cursor } = pageOf(wanted, request.query, (one) => ({
        hlc: one.created_hlc,
        id: one.id,
      }));
      const tunnels = context.tunnels.stats().peers;
      return { services: items.map((service) => serviceResource(context, service, tunnels)), next_cursor };
    },
  );

  app.post(
    '/v1/services',
    { schema: documented({ body: CreateServiceBody }, { 201: Service }) },
    (request, reply) => {
      const { events, result } = executor.execute(commandOf(request), (now, at) =>
        decideCreateService(
          now,
          { ...settingsOf(request.body), target_peer_id: request.body.target_peer_id as PeerId },
          at,
        ),
      );
      const service = requireService(views, result ?? (events[0]?.entity as ServiceId));
      return reply
        .code(201)
        .headers({ etag: etag(service.version), location: `/v1/services/${service.id}` })
        .send(serviceResource(context, service));
    },
  );

  app.get(
    '/v1/services/:id',
    { schema: documented({ params: ServiceParams }, { 200: Service }) },
    (request, reply) => {
      const service = requireService(views, request.params.id as ServiceId);
      return reply.header('etag', etag(service.version)).send(serviceResource(context, service));
    },
  );

  app.put(
    '/v1/services/:id',
    {
      schema: documented(
        { params: ServiceParams, querystring: FlowEffectQuery, body: UpdateServiceBody },
        { 200: Service },
      ),
    },
    (request, reply) => {
      const id = request.params.id as ServiceId;
      executor.execute(commandOf(request, id), (now, at) =>
        decideUpdateService(now, id, settingsOf(request.body), at, effectOf(request.query)),
      );
      const service = requireService(views, id);
      return reply.header('etag', etag(service.version)).send(serviceResource(context, service));
    },
  );

  app.delete(
    '/v1/services/:id',
    { schema: documented({ params: ServiceParams, querystring: FlowEffectQuery }, { 204: Type.Null() }) },
    (request, reply) => {
      const id = request.params.id as ServiceId;
      executor.execute(commandOf(request, id), (now, at) =>
        decideDeleteService(now, id, at, effectOf(request.query)),
      );
      return reply.code(204).send();
    },
  );
}

/** How the query says it. */
export const effectOf = (query: Type.Static<typeof FlowEffectQuery>): FlowEffect => ({
  resetFlows: query.reset_flows === true,
});

/** The schema has checked the shape of the ids. */
const settingsOf = (body: Type.Static<typeof UpdateServiceBody>): ServiceSettings => body as ServiceSettings;
