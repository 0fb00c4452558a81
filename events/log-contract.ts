import type { EventId, Hlc, PeerId, Position } from './brand.ts';
import type { Actor, AnyEvent, AnyNewEvent, Stream } from './envelope.ts';

export interface AppendContext {
  readonly actor: Actor;
  readonly correlationId: string;
  /** Appending again under one key returns the first result (survives restarts). */
  readonly idempotencyKey?: string;
  /** Refuse with CONFLICT unless the entity's version (count of its events) is still this. */
  readonly expectedVersion?: { readonly entity: string; readonly version: number };
}

/** `(origin -> highest gapless config seq held)`. */
export type VersionVector = Readonly<Record<PeerId, number>>;

export interface ReadFilter {
  readonly after?: Position;
  readonly until?: Position;
  readonly untilHlc?: Hlc;
  readonly types?: readonly string[];
  readonly origin?: PeerId;
  readonly stream?: Stream;
  readonly entity?: string;
  readonly actor?: string;
  readonly limit?: number;
}

export type ReceiveOutcome =
  /** Appended now. */
  | { readonly kind: 'appended'; readonly events: readonly AnyEvent[]; readonly duplicates: number }
  /** The batch starts past what we hold: pull from `have + 1`. */
  | { readonly kind: 'gap'; readonly have: number }
  /** Hash, chain, signature or schema is wrong; nothing was stored. */
  | { readonly kind: 'refused'; readonly seq: number; readonly reason: string }
  /** Same (origin, seq), other content: evidence of equivocation. Nothing was stored. */
  | {
      readonly kind: 'equivocation';
      readonly seq: number;
      readonly held: AnyEvent;
      readonly offered: AnyEvent;
    };

/** The append-only log. Synchronous on purpose: an append, its folds and its wake-ups are one tick. */
export interface Log {
  readonly origin: PeerId;
  /** Position of the newest event; 0 when empty. */
  readonly head: Position;
  /** Appends events of this host in one durable, signed transaction. Streams follow the catalogue. */
  append(events: readonly AnyNewEvent[], context: AppendContext): readonly AnyEvent[];
  /** What an earlier append under this idempotency key gave; undefined when there was none. */
  recall(idempotencyKey: string): readonly AnyEvent[] | undefined;
  /**
   * Takes events of one other origin's `config` stream, in order and without holes, whose last carries a signature.
   * `publicKey` is the 32-byte key pinned for that origin. Verifies everything before anything is stored.
   */
  receive(origin: PeerId, publicKey: Uint8Array, events: readonly AnyEvent[]): ReceiveOutcome;
  versionVector(): VersionVector;
  /** Events of one origin's `config` stream from `fromSeq`, whole transactions, at most about `maxEvents`. */
  range(origin: PeerId, fromSeq: number, maxEvents: number): readonly AnyEvent[];
  get(id: EventId): AnyEvent | undefined;
  read(filter: ReadFilter): readonly AnyEvent[];
  /** Newest first when `reverse`. Pages of `filter.limit` (default 5,000). */
  pages(filter: ReadFilter, options?: { readonly reverse?: boolean }): IterableIterator<readonly AnyEvent[]>;
  /** Calls back inside the append's own tick, in order, after the transaction is durable. Returns the unsubscriber. */
  subscribe(listener: (events: readonly AnyEvent[]) => void): () => void;
  /** Reads everything after `position` first, then follows. */
  subscribeFrom(position: Position, listener: (events: readonly AnyEvent[]) => void): () => void;
  /** Number of config events about an entity: its version for If-Match. */
  entityVersion(entity: string): number;
  meta: { get(key: string): string | undefined; set(key: string, value: string): void };
  snapshots: {
    put(
      name: string,
      row: { position: Position; digest: string; foldVersion: number; state: Uint8Array },
    ): void;
    latest(
      name: string,
    ): { position: Position; digest: string; foldVersion: number; state: Uint8Array } | undefined;
  };
  close(): void;
}
