import { Type } from 'typebox';
import { PeerIdField } from '../../../events/catalogue/fields.ts';
import { EventEnvelope } from '../../../events/schema-check.ts';
import { Nullable, strict, Time } from './fields.ts';

const Mark = Type.Object(
  {
    id: EventEnvelope.properties.id,
    position: Type.Integer({ minimum: 1 }),
    time: Time,
    type: Type.String(),
    origin: PeerIdField,
    actor: EventEnvelope.properties.actor,
  },
  strict,
);
/** Where the log stood at a moment. */
const Reached = {
  position: Type.Integer({
    minimum: 0,
    description:
      'The last row of the log up to the moment: the position asked for, or the head where it is past that.',
  }),
  hlc: Nullable(Type.String()),
  last_change: Nullable(Mark, {
    description:
      'The last event up to the position that this state is made of; those after it were local facts.',
  }),
};
export const Replayed = Type.Object(
  {
    ...Reached,
    events: Type.Integer({ minimum: 0 }),
    digest: Type.String(),
    state: Type.Record(Type.String(), Type.Unknown()),
  },
  strict,
);
const MomentSummary = Type.Object({ ...Reached, digest: Type.String() }, strict);
const PlainRow = Nullable(Type.Record(Type.String(), Type.Unknown()));
export const StateCompared = Type.Object(
  {
    from: MomentSummary,
    to: MomentSummary,
    changes: Type.Array(
      Type.Object(
        {
          projection: Type.String(),
          kind: Type.Union([Type.Literal('added'), Type.Literal('removed'), Type.Literal('changed')]),
          item: Type.String(),
          label: Type.String(),
          before: PlainRow,
          after: PlainRow,
          fields: Type.Array(
            Type.Object(
              { field: Type.String(), before: Type.Unknown(), after: Type.Unknown(), event: Nullable(Mark) },
              strict,
            ),
          ),
          event: Nullable(Mark),
        },
        strict,
      ),
    ),
  },
  strict,
);
export const ReplayVerified = Type.Object(
  {
    matches: Type.Boolean(),
    position: Type.Integer({ minimum: 0 }),
    events: Type.Integer({ minimum: 0 }),
    live_digest: Type.String(),
    replayed_digest: Type.String(),
    differing: Type.Array(Type.String()),
  },
  strict,
);
