import type { EventId, Position } from '../../events/brand.ts';
import { describeEvent } from '../../events/describe.ts';
import type { AnyEvent } from '../../events/envelope.ts';
import type { Log } from '../../events/log-contract.ts';
import { type EventSummary, summaryOf } from '../../projections/drift-history.ts';
import { type FieldOutcome, isConflict, overridden } from '../../projections/explain.ts';
import { namesIn } from '../../projections/names.ts';
import type { Projections } from '../../projections/runner.ts';

type ToldOutcome = FieldOutcome & { readonly winning_event: EventSummary | null };

export type ListedEvent = AnyEvent & {
  readonly text: string;
  readonly lost: readonly ToldOutcome[];
  /** Fields an update of another host replaced afterwards. */
  readonly overridden: readonly ToldOutcome[];
  /** The other way round: what an update replaced of other hosts. */
  readonly overrides: readonly { readonly field: string; readonly event: EventSummary }[];
};

/** Earlier events of an entity looked at for what an update replaced: so much an update, however long the history. */
const LOOK_BACK = 16;

/** Events as the API shows them: with a line for people, and what became of what they wrote. */
export interface EventRows {
  /** For one event: every field, whether it stands or not. */
  full(event: AnyEvent): AnyEvent & { readonly text: string; readonly outcome: readonly ToldOutcome[] };
  /** For many: only what lost a conflict, and what one host replaced of another's. */
  listed(events: readonly AnyEvent[]): readonly ListedEvent[];
}

/** A later write that came after it replaced it, as is usual; one that was there already kept it from changing anything. */
const lostBy =
  ({ position }: AnyEvent) =>
  ({ reason, winning_event }: ToldOutcome): boolean =>
    isConflict(reason) || (winning_event !== null && winning_event.position < position);

/**
 * On the host of the loser the winner of a conflict comes later, as does the update of somebody who had read what it
 * replaces. No event tells them apart, so this is no word of a conflict.
 */
const overriddenLater =
  ({ position }: AnyEvent) =>
  ({ reason, winning_event }: ToldOutcome): boolean =>
    reason === 'written later' &&
    winning_event !== null &&
    winning_event.position > position &&
    isUpdate(winning_event);

const isUpdate = ({ type }: { readonly type: string }): boolean => type.endsWith('.updated');

export function createEventRows(deps: {
  readonly log: Pick<Log, 'get' | 'pages'>;
  readonly projections: Pick<Projections, 'views' | 'explainConflict' | 'contestedFields'>;
}): EventRows {
  const { log, projections } = deps;
  const nameOf = namesIn(projections.views);
  const winnerOf = (id: EventId): EventSummary | null => {
    const winner = log.get(id);
    return winner === undefined ? null : summaryOf(winner, nameOf);
  };
  const overriddenBy = (event: AnyEvent): ListedEvent['overrides'] => {
    if (!isUpdate(event)) return [];
    const { entity, position } = event;
    const until = (position - 1) as Position;
    const earlier = log.pages({ entity, stream: 'config', until, limit: LOOK_BACK }, { reverse: true });
    return overridden(event, earlier.next().value ?? []).map((one) => ({
      field: one.field,
      event: summaryOf(one.event, nameOf),
    }));
  };
  return {
    full: (event) => ({
      ...event,
      text: describeEvent(event, nameOf),
      outcome: projections
        .explainConflict(event)
        .map((one) => ({ ...one, winning_event: one.stands ? null : winnerOf(one.winner) })),
    }),
    listed(events) {
      // One delete may have won over many.
      const winners = new Map<EventId, EventSummary | null>();
      const told = (one: FieldOutcome): ToldOutcome => {
        const winning_event = winners.has(one.winner)
          ? (winners.get(one.winner) ?? null)
          : winnerOf(one.winner);
        winners.set(one.winner, winning_event);
        return { ...one, winning_event };
      };
      return events.map((event) => {
        const contested = projections.contestedFields(event).map(told);
        return {
          ...event,
          text: describeEvent(event, nameOf),
          lost: contested.filter(lostBy(event)),
          overridden: contested.filter(overriddenLater(event)),
          overrides: overriddenBy(event),
        };
      });
    },
  };
}
