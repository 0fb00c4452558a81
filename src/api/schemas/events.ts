import { Type } from 'typebox';
import { EventEnvelope } from '../../../events/schema-check.ts';
import { listOf, Nullable, strict, Time } from './fields.ts';

const Summary = Type.Object(
  {
    id: EventEnvelope.properties.id,
    position: Type.Integer({ minimum: 1 }),
    time: Time,
    type: Type.String(),
    actor: EventEnvelope.properties.actor,
    text: Type.String({ description: 'The event in one line.' }),
  },
  strict,
);
export const EventSummary = Nullable(Summary);
const Text = Type.String({ description: 'The event in one line.' });
const Outcomes = (description: string) =>
  Type.Array(
    Type.Object(
      {
        field: Type.String(),
        stands: Type.Boolean(),
        winner: EventEnvelope.properties.id,
        reason: Type.String(),
        winning_event: EventSummary,
      },
      strict,
    ),
    { description },
  );
export const EventWithOutcome = Type.Object(
  {
    ...EventEnvelope.properties,
    text: Text,
    outcome: Outcomes('What became of each field it wrote: the loser of a conflict stays in the log.'),
  },
  strict,
);
export const ListedEvent = Type.Object(
  {
    ...EventEnvelope.properties,
    text: Text,
    lost: Outcomes(
      'Fields it lost in a conflict: to a later write of another host that this host had already, to a concurrent delete, or to a fork of its origin.',
    ),
    overridden: Outcomes(
      'Fields that an update of another host, which came here after this event, replaced. Its author may have seen this event or not; no event says which.',
    ),
    overrides: Type.Array(Type.Object({ field: Type.String(), event: Summary }, strict), {
      description:
        "The same from the other side: of an update, the fields whose value came from another host's event, and that event. It looks back 16 events of the entity.",
    }),
  },
  strict,
);
export const EventList = listOf('events', ListedEvent);
