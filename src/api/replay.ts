import { Type } from 'typebox';
import { PROJECTION_NAMES } from '../../projections/replay.ts';
import { type ApiContext, type App, documented } from './context.ts';
import { Moment, momentOf } from './moment.ts';
import { Replayed, ReplayVerified, StateCompared } from './schemas/replay.ts';

const ReplayQuery = Type.Object(
  {
    until: Type.Optional(Moment),
    projection: Type.Optional(Type.Union(PROJECTION_NAMES.map((name) => Type.Literal(name)))),
    diff_with: Type.Optional(Moment),
  },
  { additionalProperties: false },
);

/** Past states of this peer, folded anew from its log beside the live ones. */
export function replayRoutes(app: App, { projections }: ApiContext): void {
  app.get(
    '/v1/replay',
    {
      schema: documented({ querystring: ReplayQuery }, { 200: Type.Union([Replayed, StateCompared]) }),
    },
    async (request) => {
      const { until, projection, diff_with } = request.query;
      const to = until === undefined ? undefined : momentOf(until, 'until');
      if (diff_with !== undefined)
        return projections.compare({ from: momentOf(diff_with, 'diff_with'), to, projection });
      return projections.replay({
        ...(to === undefined ? {} : { until: to }),
        ...(projection === undefined ? {} : { projection }),
      });
    },
  );

  app.get('/v1/replay/verify', { schema: documented({}, { 200: ReplayVerified }) }, () =>
    projections.verify(),
  );

  // Every reader keeps its answer: the new fold takes the place of the old one within one tick.
  app.post(
    '/v1/replay/rebuild',
    {
      preValidation: async (request) => {
        request.body ??= {};
      },
      schema: documented({ body: Type.Object({}, { additionalProperties: false }) }, { 200: ReplayVerified }),
    },
    () => projections.rebuild(),
  );
}
