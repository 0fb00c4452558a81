import type { EventId } from '../events/brand.ts';
import type { AnyEvent } from '../events/envelope.ts';
import type { Fold } from './fold.ts';
import { PEER_FIELDS } from './peers.ts';
import { ROUTE_FIELDS } from './routes.ts';
import { SERVICE_FIELDS } from './services.ts';
import { compareStamps, type Stamp } from './stamp.ts';

/** Whether what an event wrote to a field still stands, and if not, which event stands in its place and why. */
export interface FieldOutcome {
  readonly field: string;
  readonly stands: boolean;
  /** The event whose value (or deletion) is in force. */
  readonly winner: EventId;
  readonly reason:
    | 'in force'
    | 'written later'
    | 'deleted'
    | 'concurrent delete wins'
    | 'past a fork of its origin';
}

/** Explains what became of a write to a peer, service or route, field by field. Other events have no outcome. */
export function explainConflict(fold: Fold, event: AnyEvent): readonly FieldOutcome[] {
  const data = event.data as Readonly<Record<string, unknown>>;
  const found = historyOf(fold, event);
  if (!found) return [];
  const { history, fields } = found;
  const own: Stamp = { hlc: event.hlc, origin: event.origin, id: event.id };
  const { deleted } = history;
  return fields
    .filter((field) => data[field] !== undefined)
    .map((field): FieldOutcome => {
      if (event.seq >= (fold.forks.get(event.origin) ?? Number.POSITIVE_INFINITY))
        return {
          field,
          stands: false,
          winner: (deleted ?? history.stamps[field])?.id ?? event.id,
          reason: 'past a fork of its origin',
        };
      if (deleted)
        return {
          field,
          stands: false,
          winner: deleted.id,
          reason: compareStamps(deleted, own) > 0 ? 'deleted' : 'concurrent delete wins',
        };
      const winner = history.stamps[field] ?? own;
      const stands = winner.id === event.id;
      return { field, stands, winner: winner.id, reason: stands ? 'in force' : 'written later' };
    });
}

/**
 * The fields of a write that may have lost a conflict: to an event of another host, to a concurrent delete, or to a fork. What
 * its own host wrote or deleted afterwards is the ordinary course of things, and nothing is lost where both wrote the same, as the
 * two sides of a join do. Whether a winner from another host was there
 * before the write came, the positions of both tell.
 */
export function contestedFields(fold: Fold, event: AnyEvent): readonly FieldOutcome[] {
  const found = historyOf(fold, event);
  if (!found) return [];
  const { stamps, deleted, values } = found.history;
  return explainConflict(fold, event).filter(({ field, stands, reason }) => {
    if (stands) return false;
    if (isConflict(reason)) return true;
    if (deleted === undefined && isSame(written(event, field), values[field])) return false;
    return (deleted ?? stamps[field])?.origin !== event.origin;
  });
}

/** Whether a write lost for this reason lost a conflict, whoever came first. */
export const isConflict = (reason: FieldOutcome['reason']): boolean =>
  reason === 'concurrent delete wins' || reason === 'past a fork of its origin';

/** A field that a write took over from a write of another host. */
export interface Overridden {
  readonly field: string;
  readonly event: AnyEvent;
}

/**
 * Which writes of other hosts an update replaced, field by field, given the earlier events of its entity as this host holds
 * them. Whether its author had seen them, no event says: an event carries its own time, not what its author held.
 */
export function overridden(event: AnyEvent, earlier: readonly AnyEvent[]): readonly Overridden[] {
  const found: Overridden[] = [];
  for (const field of fieldsOf(event.entity)) {
    if (written(event, field) === undefined) continue;
    let held: AnyEvent | undefined;
    for (const one of earlier) {
      if (written(one, field) === undefined) continue;
      if (held === undefined || compareStamps(one, held) > 0) held = one;
    }
    if (held === undefined || held.origin === event.origin || compareStamps(event, held) < 0) continue;
    if (!isSame(written(event, field), written(held, field))) found.push({ field, event: held });
  }
  return found;
}

const written = (event: AnyEvent, field: string): unknown =>
  (event.data as Readonly<Record<string, unknown>>)[field];

const isSame = (a: unknown, b: unknown): boolean => a === b || JSON.stringify(a) === JSON.stringify(b);

interface Found {
  readonly history: {
    readonly values: Readonly<Record<string, unknown>>;
    readonly stamps: Readonly<Record<string, Stamp | undefined>>;
    readonly deleted: Stamp | undefined;
  };
  readonly fields: readonly string[];
}

function historyOf(fold: Fold, event: AnyEvent): Found | undefined {
  const { entity } = event;
  const pick = (
    held: { registers: { stamps: object; values: object }; deleted: Stamp | undefined } | undefined,
  ): Found | undefined =>
    held && {
      history: {
        values: held.registers.values as Readonly<Record<string, unknown>>,
        stamps: held.registers.stamps as Readonly<Record<string, Stamp | undefined>>,
        deleted: held.deleted,
      },
      fields: fieldsOf(entity),
    };
  if (entity.startsWith('svc_')) return pick(fold.services.history(entity));
  if (entity.startsWith('rte_')) return pick(fold.routes.history(entity));
  if (entity.startsWith('peer_')) return pick(fold.peers.history(entity));
  return undefined;
}

function fieldsOf(entity: string): readonly string[] {
  if (entity.startsWith('svc_')) return SERVICE_FIELDS;
  if (entity.startsWith('rte_')) return ROUTE_FIELDS;
  return entity.startsWith('peer_') ? PEER_FIELDS : [];
}
