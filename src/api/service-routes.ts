import { Type } from 'typebox';
import type { RouteKey, ServiceId } from '../../events/brand.ts';
import { decideAddRoutes, decideDeleteRoute, decideUpdateRoute, requireRoute } from '../commands/routes.ts';
import { requireService } from '../commands/services.ts';
import { type ApiContext, type App, commandOf, documented, etag } from './context.ts';
import { PagingQuery, pageOf } from './paging.ts';
import { routeResource } from './resources.ts';
import { listOf } from './schemas/fields.ts';
import { AddRoutesBody, Route, RouteParams, RoutesAdded, UpdateRouteBody } from './schemas/routes.ts';
import { FlowEffectQuery, ServiceParams } from './schemas/services.ts';
import { effectOf } from './services.ts';

const ListQuery = Type.Object({ ...PagingQuery }, { additionalProperties: false });

export function routeRoutes(app: App, context: ApiContext): void {
  const { views, executor } = context;

  app.get(
    '/v1/services/:id/routes',
    {
      schema: documented({ params: ServiceParams, querystring: ListQuery }, { 200: listOf('routes', Route) }),
    },
    (request) => {
      const service = requireService(views, request.params.id as ServiceId);
      const { items, next_cursor } = pageOf(views.routes.ofService(service.id), request.query, (route) => ({
        hlc: route.created_hlc,
        id: route.key,
      }));
      return { routes: items.map(routeResource), next_cursor };
    },
  );

  app.post(
    '/v1/services/:id/routes',
    { schema: documented({ params: ServiceParams, body: AddRoutesBody }, { 201: RoutesAdded }) },
    (request, reply) => {
      const id = request.params.id as ServiceId;
      const { events } = executor.execute(commandOf(request), (now, at) =>
        decideAddRoutes(now, id, request.body.routes, at),
      );
      const route_ids = events.flatMap((event) =>
        event.type === 'route.added'
          ? [views.routes.get(event.entity as RouteKey)?.id ?? event.data.number]
          : [],
      );
      return reply.code(201).send({ route_ids, count: route_ids.length });
    },
  );

  app.put(
    '/v1/services/:id/routes/:route_id',
    {
      schema: documented(
        { params: RouteParams, querystring: FlowEffectQuery, body: UpdateRouteBody },
        { 200: Route },
      ),
    },
    (request, reply) => {
      const id = request.params.id as ServiceId;
      const { route_id } = request.params;
      const { key } = requireRoute(views, id, route_id);
      executor.execute(commandOf(request, key), (now, at) =>
        decideUpdateRoute(now, id, route_id, request.body, at, effectOf(request.query)),
      );
      const route = requireRoute(views, id, route_id);
      return reply.header('etag', etag(route.version)).send(routeResource(route));
    },
  );

  app.delete(
    '/v1/services/:id/routes/:route_id',
    { schema: documented({ params: RouteParams, querystring: FlowEffectQuery }, { 204: Type.Null() }) },
    (request, reply) => {
      const id = request.params.id as ServiceId;
      const { route_id } = request.params;
      const { key } = requireRoute(views, id, route_id);
      executor.execute(commandOf(request, key), (now, at) =>
        decideDeleteRoute(now, id, route_id, at, effectOf(request.query)),
      );
      return reply.code(204).send();
    },
  );
}
