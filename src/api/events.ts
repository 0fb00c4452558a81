import { Type } from 'typebox';
import type { EventId, PeerId, Position } from '../../events/brand.ts';
import { EventIdField, PeerIdField } from '../../events/catalogue/fields.ts';
import { ArcticError } from '../../events/errors.ts';
import type { Log, ReadFilter } from '../../events/log-contract.ts';
import { expectTypes } from '../../events/wanted-types.ts';
import { type ApiContext, type App, type Caller, documented } from './context.ts';
import type { EventRows } from './event-rows.ts';
import type { EventStreams } from './event-stream.ts';
import { Moment, momentOf } from './moment.ts';
import { limitOf, PagingQuery } from './paging.ts';
import { EventList, EventWithOutcome } from './schemas/events.ts';
import { Reconcilers } from './schemas/reconcilers.ts';

const ListQuery = Type.Object(
  {
    limit: PagingQuery.limit,
    cursor: Type.Optional(Type.String({ pattern: '^[0-9]{1,15}$' })),
    after: Type.Optional(Type.Integer({ minimum: 0, description: 'Position; only later events.' })),
    until: Type.Optional(Moment),
    type: Type.Optional(Type.String({ maxLength: 500, description: 'One or several, separated by commas.' })),
    actor: Type.Optional(Type.String({ maxLength: 100 })),
    origin: Type.Optional(PeerIdField),
    entity: Type.Optional(Type.String({ maxLength: 200 })),
    order: Type.Optional(Type.Union([Type.Literal('asc'), Type.Literal('desc')])),
  },
  { additionalProperties: false },
);
const EventParams = Type.Object({ id: EventIdField }, { additionalProperties: false });
export function eventRoutes(app: App, context: ApiContext, rows: EventRows, streams: EventStreams): void {
  const { log, views, clock } = context;
  /** A stream outlives the request that was let in, so who reads it is looked at again and again. */
  const mayGoOn = ({ clientId, expiresAt }: Caller): boolean =>
    (expiresAt === null || clock.now() < expiresAt) &&
    (clientId === null || views.credentials.get(clientId)?.revoked === false);

  app.get(
    '/v1/events',
    { schema: documented({ querystring: ListQuery }, { 200: EventList }) },
    (request, reply) => {
      const { query } = request;
      const filter = filterOf(query, log);
      if (request.method === 'GET' && accepts(request.headers.accept, 'text/event-stream')) {
        const resumed = request.headers['last-event-id'];
        return streams.open(reply, filter, resumeFrom(resumed, query.after), () => mayGoOn(request.caller));
      }
      const limit = limitOf(query);
      const descending = query.order === 'desc';
      const cursor = query.cursor === undefined ? undefined : (Number(query.cursor) as Position);
      const bounded: ReadFilter = descending
        ? withUpperBound(filter, cursor)
        : { ...filter, after: cursor ?? afterOf(query.after) };
      // One more than asked tells whether there is a next page.
      const pages = log.pages({ ...bounded, limit: limit + 1 }, { reverse: descending });
      const found = pages.next().value ?? [];
      const events = found.slice(0, limit);
      const last = events.at(-1);
      return {
        events: rows.listed(events),
        next_cursor: found.length > limit && last !== undefined ? String(last.position) : null,
      };
    },
  );

  app.get(
    '/v1/events/:id',
    { schema: documented({ params: EventParams }, { 200: EventWithOutcome }) },
    (request) => {
      const event = log.get(request.params.id as EventId);
      if (event === undefined) {
        throw new ArcticError('NOT_FOUND', `there is no event ${request.params.id} in the log of this peer.`);
      }
      return rows.full(event);
    },
  );

  app.get('/v1/reconcilers', { schema: documented({}, { 200: Reconcilers }) }, () => ({
    reconcilers: context.reconcilers.status(),
  }));
}

/** Newest first, the cursor is the last position of the page before: everything below it. */
function withUpperBound(filter: ReadFilter, cursor: Position | undefined): ReadFilter {
  if (cursor === undefined) return filter;
  const below = Math.max(0, cursor - 1);
  return { ...filter, until: Math.min(below, filter.until ?? below) as Position };
}

const afterOf = (after: number | undefined): Position => (after ?? 0) as Position;

/** The newer of what the browser says it has (`Last-Event-ID`) and what the request says. */
function resumeFrom(lastEventId: string | string[] | undefined, after: number | undefined): Position {
  if (lastEventId === undefined) return afterOf(after);
  if (typeof lastEventId !== 'string' || !/^\d{1,15}$/.test(lastEventId)) {
    throw new ArcticError('INVALID_REQUEST', 'the header Last-Event-ID must be the position of an event.', [
      { pointer: 'headers/last-event-id', message: 'must be a position' },
    ]);
  }
  return Math.max(Number(lastEventId), after ?? 0) as Position;
}

const accepts = (accept: string | undefined, type: string): boolean =>
  accept?.split(',').some((one) => one.split(';')[0]?.trim() === type) ?? false;

function filterOf(query: Type.Static<typeof ListQuery>, log: Pick<Log, 'read'>): ReadFilter {
  const types = query.type?.split(',');
  if (types !== undefined) expectTypes(types, log);
  const until = query.until === undefined ? undefined : momentOf(query.until, 'until');
  return {
    ...(query.after === undefined ? {} : { after: query.after as Position }),
    ...(until === undefined ? {} : 'position' in until ? { until: until.position } : { untilHlc: until.hlc }),
    ...(types === undefined ? {} : { types }),
    ...(query.actor === undefined ? {} : { actor: query.actor }),
    ...(query.origin === undefined ? {} : { origin: query.origin as PeerId }),
    ...(query.entity === undefined ? {} : { entity: query.entity }),
  };
}
