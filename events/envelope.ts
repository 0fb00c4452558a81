import type { EventId, Hlc, PeerId, Position } from './brand.ts';
import type { EventData, EventType } from './catalogue.ts';
import type { Stream } from './stream.ts';

export type { Stream };

/** Who asked for a change, and from where. */
export interface Actor {
  /** `client`: an OAuth2 client; `recovery`: the recovery token; `peer`: another agent; `system`: the agent itself. */
  readonly kind: 'client' | 'recovery' | 'peer' | 'system';
  /** Client id or peer id; `null` for recovery and system. */
  readonly id: string | null;
  /** Source IP address of the request; `null` when there was none. */
  readonly address: string | null;
}

/**
 * One immutable fact. `(origin, stream, seq)` is global and gapless per origin and stream; `position` is this host's row.
 * `hash` is SHA-256 (hex) over the RFC 8785 canonical JSON of everything here but `position`, `hash` and `signature`.
 * `signature` (base64 Ed25519 over the hash's 32 bytes, domain separated) stands on the last event of each transaction and,
 * by the chain, covers the events before it; on the others it is null.
 */
export interface ArcticEvent<T extends EventType = EventType> {
  readonly id: EventId;
  readonly position: Position;
  readonly origin: PeerId;
  readonly stream: Stream;
  readonly seq: number;
  readonly hlc: Hlc;
  readonly type: T;
  readonly version: number;
  /** Id of the thing the event is about: `svc_...`, `peer_...`, `rte_...`, `reconciler:firewall`. */
  readonly entity: string;
  readonly actor: Actor;
  readonly correlation_id: string;
  readonly data: EventData[T];
  readonly prev_hash: string;
  readonly hash: string;
  readonly signature: string | null;
}

/** What a decision returns: everything the log does not fill in itself. */
export interface NewEvent<T extends EventType = EventType> {
  readonly type: T;
  readonly entity: string;
  readonly data: EventData[T];
  /** Given only to make an append idempotent by event id. */
  readonly id?: EventId;
}

/** An event discriminated by `type`, so that a switch narrows `data`. */
export type AnyEvent = { [T in EventType]: ArcticEvent<T> }[EventType];
export type AnyNewEvent = { [T in EventType]: NewEvent<T> }[EventType];
