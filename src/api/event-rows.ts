import type { EventId, PeerId, RouteKey, ServiceId } from '../../events/brand.ts';
import { describeEvent, type NameOf } from '../../events/describe.ts';
import type { AnyEvent } from '../../events/envelope.ts';
import type { Log } from '../../events/log-contract.ts';
import { type EventSummary, summaryOf } from '../../projections/drift-history.ts';
import { type FieldOutcome, isConflict } from '../../projections/explain.ts';
import type { Projections } from '../../projections/runner.ts';

type ToldOutcome = FieldOutcome & { readonly winning_event: EventSummary | null };

export type ListedEvent = AnyEvent & { readonly text: string; readonly lost: readonly ToldOutcome[] };

/** Events as the API shows them: with a line for people, and what became of what they wrote. */
export interface EventRows {
  /** For one event: every field, whether it stands or not. */
  full(event: AnyEvent): AnyEvent & { readonly text: string; readonly outcome: readonly ToldOutcome[] };
  /** For many: only what lost a conflict. */
  listed(events: readonly AnyEvent[]): readonly ListedEvent[];
}

/** A later write that came after it replaced it, as is usual; one that was there already kept it from changing anything. */
const lostBy =
  ({ position }: AnyEvent) =>
  ({ reason, winning_event }: ToldOutcome): boolean =>
    isConflict(reason) || (winning_event !== null && winning_event.position < position);

export function createEventRows(deps: {
  readonly log: Pick<Log, 'get'>;
  readonly projections: Pick<Projections, 'views' | 'explainConflict' | 'contestedFields'>;
}): EventRows {
  const { log, projections } = deps;
  const { views } = projections;
  const nameOf: NameOf = (id) =>
    id.startsWith('rte_')
      ? views.routes.numberOf(id as RouteKey)?.toString()
      : (views.services.get(id as ServiceId)?.name ?? views.peers.get(id as PeerId)?.name);
  const winnerOf = (id: EventId): EventSummary | null => {
    const winner = log.get(id);
    return winner === undefined ? null : summaryOf(winner, nameOf);
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
      return events.map((event) => ({
        ...event,
        text: describeEvent(event, nameOf),
        lost: projections.contestedFields(event).map(told).filter(lostBy(event)),
      }));
    },
  };
}
