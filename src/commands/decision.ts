import type { PeerId } from '../../events/brand.ts';
import type { Actor, AnyNewEvent } from '../../events/envelope.ts';
import type { Ids } from '../../events/ids.ts';

/** What a decision may know besides the views. Everything in it is data or repeatable, so a decision is pure. */
export interface DecisionContext {
  /** Milliseconds since the epoch. */
  readonly now: number;
  readonly actor: Actor;
  readonly localPeer: PeerId;
  readonly ids: Ids;
  /** Uniform in [0, 1). */
  readonly fraction: () => number;
  /** The fencing number of the cluster lock that the caller says it holds. */
  readonly fence: number | undefined;
}

/** The events that make a command true (none when it is true already), and what the caller is told. */
export interface Decision<Result> {
  readonly events: readonly AnyNewEvent[];
  readonly result: Result;
}
