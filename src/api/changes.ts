import type { Static } from 'typebox';
import type { PeerId, ServiceId } from '../../events/brand.ts';
import { type Change, decideChanges } from '../commands/changes.ts';
import { type ApiContext, type App, commandOf, documented } from './context.ts';
import { type Change as ChangeSchema, ChangesAnswer, ChangesBody } from './schemas/changes.ts';

/** `POST /v1/changes`: several changes in one transaction, as `compose apply` makes them. */
export function changeRoutes(app: App, { executor }: ApiContext): void {
  app.post(
    '/v1/changes',
    { schema: documented({ body: ChangesBody }, { 200: ChangesAnswer }) },
    (request, reply) => {
      const changes = request.body.changes.map(changeOf);
      const { events } = executor.execute(commandOf(request), (now, at) => decideChanges(now, changes, at));
      // From the events, so that a request that is sent again gets the same answer.
      const services = events.flatMap((event) =>
        event.type === 'service.created' ? [{ id: event.entity as ServiceId, name: event.data.name }] : [],
      );
      return reply.send({ count: events.length, services });
    },
  );
}

/** The schema has checked the shape of the ids. */
function changeOf(body: Static<typeof ChangeSchema>): Change {
  switch (body.kind) {
    case 'update_peer': {
      const { kind, id, ...settings } = body;
      return { kind, id: id as PeerId, settings };
    }
    case 'create_service': {
      const { kind, routes = [], ...settings } = body;
      return { kind, settings: settings as Extract<Change, { kind: 'create_service' }>['settings'], routes };
    }
    case 'update_service': {
      const { kind, id, ...settings } = body;
      return {
        kind,
        id: id as ServiceId,
        settings: settings as Extract<Change, { kind: 'update_service' }>['settings'],
      };
    }
    case 'delete_service':
      return { kind: body.kind, id: body.id as ServiceId };
    case 'add_routes':
      return { kind: body.kind, service: body.service_id as ServiceId, routes: body.routes };
    case 'update_route': {
      const { kind, service_id, id, ...settings } = body;
      return { kind, service: service_id as ServiceId, number: id, settings };
    }
    case 'delete_route':
      return { kind: body.kind, service: body.service_id as ServiceId, number: body.id };
  }
}
