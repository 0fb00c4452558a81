import { Type } from 'typebox';
import {
  driftAt,
  driftSince,
  itemsSince,
  lastEventBehind,
  undoings,
} from '../../projections/drift-history.ts';
import { type ApiContext, type App, documented } from './context.ts';
import { badMoment, Moment, positionIn, timeIn } from './moment.ts';
import { Drift, DriftThen } from './schemas/drift.ts';

const DriftQuery = Type.Object({ at: Type.Optional(Moment) }, { additionalProperties: false });

/** Desired against observed, now or then. */
export function driftRoutes(app: App, context: ApiContext): void {
  const { log, views, identity, reconcilers } = context;

  app.get(
    '/v1/drift',
    { schema: documented({ querystring: DriftQuery }, { 200: Type.Union([Drift, DriftThen]) }) },
    async (request) => {
      const { at } = request.query;
      if (at !== undefined) return driftAt(log, identity.peerId, momentIn(at));
      const lastPass = new Map(reconcilers.status().map(({ name, last_run_at }) => [name, last_run_at]));
      const reports = await reconcilers.drift();
      return {
        drift: reports.some((report) => report.differences.length > 0),
        reconcilers: reports.map(({ reconciler, differences, repair_at }) => {
          const names = differences.map(({ item }) => item);
          const items = itemsSince(log, reconciler, names);
          const undone = repair_at === null ? undefined : undoings(log, reconciler, names);
          return {
            reconciler,
            since:
              differences.length === 0 ? null : driftSince(log, reconciler, lastPass.get(reconciler) ?? null),
            differences: differences.map((one) => ({
              ...one,
              since: items.get(one.item) ?? null,
              repair:
                repair_at === null
                  ? null
                  : {
                      waits_until: repair_at,
                      undone: undone?.get(one.item)?.times ?? 0,
                      by: undone?.get(one.item)?.by ?? null,
                    },
              last_event: lastEventBehind(log, views, one),
            })),
          };
        }),
      };
    },
  );
}

function momentIn(text: string): Parameters<typeof driftAt>[2] {
  const position = positionIn(text);
  if (position !== undefined) return { position };
  const ms = timeIn(text);
  if (ms === undefined) throw badMoment('at');
  return { ms };
}
