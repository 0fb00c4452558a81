import type { EventId, PeerId, Position } from '../events/brand.ts';
import type { Actor, AnyEvent } from '../events/envelope.ts';
import { timeOf } from './stamp.ts';

/** The event behind a change, as much of it as a person asks for. */
export interface EventMark {
  readonly id: EventId;
  readonly position: Position;
  readonly time: string;
  readonly type: string;
  readonly origin: PeerId;
  readonly actor: Actor;
}

export const markOf = ({ id, position, hlc, type, origin, actor }: AnyEvent): EventMark => ({
  id,
  position,
  time: timeOf(hlc),
  type,
  origin,
  actor,
});
