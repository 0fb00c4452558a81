import { Readable } from 'node:stream';
import { setImmediate as turn } from 'node:timers/promises';
import { Type } from 'typebox';
import { exportAudit } from '../../events/audit-export.ts';
import { ArcticError } from '../../events/errors.ts';
import { expectTypes } from '../../events/wanted-types.ts';
import { createChanges } from '../../projections/change.ts';
import { type ApiContext, type App, documented } from './context.ts';
import { Moment, momentOf } from './moment.ts';

const AuditQuery = Type.Object(
  {
    since: Type.Optional(Moment),
    until: Type.Optional(Moment),
    type: Type.Optional(Type.String({ maxLength: 500, description: 'One or several, separated by commas.' })),
    actor: Type.Optional(
      Type.String({ maxLength: 100, description: 'Client or peer id, or `system` or `recovery`.' }),
    ),
    format: Type.Optional(Type.Union([Type.Literal('jsonl'), Type.Literal('csv')])),
  },
  { additionalProperties: false },
);

const CONTENT_TYPES = {
  jsonl: 'application/x-ndjson; charset=utf-8',
  csv: 'text/csv; charset=utf-8; header=present',
};
/** Each folds the history anew beside the live views. */
const MAX_EXPORTS = 4;

/** The history with its proof, streamed: a page of the log is read when the one before it is on its way. */
export function auditRoutes(app: App, { log, identity, clock }: ApiContext): void {
  let running = 0;

  async function* pieces(query: Type.Static<typeof AuditQuery>): AsyncGenerator<string> {
    // Here and not at the request: what is never read is never ended either.
    running += 1;
    try {
      const filter = {
        since: query.since ?? null,
        until: query.until ?? null,
        types: query.type?.split(',') ?? null,
        actor: query.actor ?? null,
      };
      const format = query.format ?? 'jsonl';
      const options = { format, filter, exportedAtMs: clock.now(), seal: identity };
      for (const piece of exportAudit(log, createChanges(), options)) {
        if (piece !== '') yield piece;
        await turn();
      }
    } finally {
      running -= 1;
    }
  }

  app.get(
    '/v1/audit',
    {
      exposeHeadRoute: false,
      schema: documented(
        { querystring: AuditQuery },
        { 200: Type.String({ description: 'JSON Lines or CSV; `arctic audit verify` reads it.' }) },
      ),
    },
    (request, reply) => {
      const { query } = request;
      for (const name of ['since', 'until'] as const) {
        const moment = query[name];
        if (moment !== undefined) momentOf(moment, name);
      }
      if (query.type !== undefined) expectTypes(query.type.split(','), log);
      if (running >= MAX_EXPORTS) {
        throw new ArcticError(
          'UNAVAILABLE',
          `${MAX_EXPORTS} exports are under way already; wait for one to end.`,
        );
      }
      const format = query.format ?? 'jsonl';
      const day = new Date(clock.now()).toISOString().slice(0, 10);
      return reply
        .header('content-type', CONTENT_TYPES[format])
        .header('content-disposition', `attachment; filename="arctic-audit-${day}.${format}"`)
        .header('cache-control', 'no-store')
        .send(Readable.from(pieces(query), { objectMode: false }));
    },
  );
}
