import { Type } from 'typebox';
import { ServiceIdField } from '../../../events/catalogue/fields.ts';
import { EventEnvelope } from '../../../events/schema-check.ts';
import { EventSummary } from './events.ts';
import { Nullable, strict, Time } from './fields.ts';

const Culprit = Nullable(
  Type.Object({ pid: Nullable(Type.Integer()), program: Nullable(Type.String()) }, strict),
);
const DifferenceFields = {
  item: Type.String(),
  desired: Nullable(Type.String()),
  observed: Nullable(Type.String()),
};
export const Drift = Type.Object(
  {
    drift: Type.Boolean(),
    reconcilers: Type.Array(
      Type.Object(
        {
          reconciler: Type.String(),
          since: Nullable(
            Type.Object(
              {
                time: Time,
                exact: Type.Boolean({
                  description: 'False: not before this time, when a pass last found everything in place.',
                }),
                event_id: Nullable(EventEnvelope.properties.id),
                position: Nullable(Type.Integer({ minimum: 1 })),
                reason: Nullable(Type.String({ description: 'Why it is not repaired.' })),
                by: Culprit,
              },
              strict,
            ),
            { description: 'Since when they differ as they do now; null where there is no difference.' },
          ),
          differences: Type.Array(
            Type.Object(
              {
                ...DifferenceFields,
                service_id: Type.Optional(ServiceIdField),
                since: Nullable(
                  Type.Object(
                    {
                      time: Time,
                      event_id: Nullable(EventEnvelope.properties.id),
                      position: Nullable(Type.Integer({ minimum: 1 })),
                      by: Culprit,
                    },
                    strict,
                  ),
                  {
                    description:
                      'When this item was found, and in every pass since; null: not written down yet.',
                  },
                ),
                repair: Nullable(
                  Type.Object(
                    {
                      waits_until: Time,
                      undone: Type.Integer({
                        minimum: 0,
                        description:
                          'How often this item was changed back, as far as this host wrote it down; at most the last 500 times.',
                      }),
                      by: Culprit,
                    },
                    strict,
                  ),
                  {
                    description:
                      'Repair waits, because somebody keeps undoing what this reconciler does; null: nothing waits.',
                  },
                ),
                last_event: EventSummary,
              },
              strict,
            ),
          ),
        },
        strict,
      ),
    ),
  },
  strict,
);
export const DriftThen = Type.Object(
  {
    at: Time,
    position: Type.Integer({ minimum: 0, description: 'The newest event of this log by then.' }),
    drift: Type.Boolean(),
    reconcilers: Type.Array(
      Type.Object(
        {
          reconciler: Type.String(),
          state: Type.Union([
            Type.Literal('matched', { description: 'The last pass left in place what was desired then.' }),
            Type.Literal('drifted', { description: 'Something had been changed and was not repaired yet.' }),
            Type.Literal('pending', { description: 'A newer desired state was not applied yet.' }),
            Type.Literal('failed', { description: 'The last pass could not apply what was desired.' }),
            Type.Literal('stopped', { description: 'The agent did not run; nobody looked.' }),
            Type.Literal('unknown', { description: 'No pass is recorded by then.' }),
          ]),
          text: Type.String({ description: 'For a person.' }),
          desired_digest: Nullable(Type.String()),
          applied_digest: Nullable(Type.String()),
          event_id: Nullable(EventEnvelope.properties.id),
          until: Nullable(Type.Object({ time: Time, event_id: EventEnvelope.properties.id }, strict), {
            description: 'When that ended, where it has.',
          }),
          by: Culprit,
          differences: Type.Array(Type.Object(DifferenceFields, strict)),
        },
        strict,
      ),
    ),
  },
  strict,
);
