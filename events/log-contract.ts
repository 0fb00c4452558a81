import type { EventId, Hlc, PeerId, Position } from './brand.ts';
import type { ChainHead } from './chain.ts';
import type { Actor, AnyEvent, AnyNewEvent, Stream } from './envelope.ts';
import type { EventRow } from './log-rows.ts';

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
  /**
   * Stored now, with how many were held already. `ignored` counts trailing events that were left out because no
   * signature covers them yet or their clock is too far ahead; they are offered again when that has passed.
   */
  | {
      readonly kind: 'appended';
      readonly events: readonly AnyEvent[];
      readonly duplicates: number;
      readonly ignored: number;
    }
  /** The batch starts past what we hold: pull from `have + 1`. */
  | { readonly kind: 'gap'; readonly have: number }
  /** The next transaction is dated more than 60 s past our clock: held back until time catches up. Nothing was stored. */
  | { readonly kind: 'ahead'; readonly seq: number; readonly aheadMs: number }
  /** Hash, chain, signature or schema is wrong; nothing was stored. */
  | { readonly kind: 'refused'; readonly seq: number; readonly reason: string }
  /**
   * The origin signed two histories. `offered` has the sequence number of `held` and other content, or it follows
   * `held` and links to something else. Both are signed, so this is evidence. Nothing was stored.
   */
  | {
      readonly kind: 'equivocation';
      readonly seq: number;
      readonly held: AnyEvent;
      readonly offered: AnyEvent;
    };

/** The end of a chain held here, with the key its signatures are checked with. */
export type PinnedChain = ChainHead & { readonly publicKey: string };

export interface PageOptions {
  /** Newest first. */
  readonly reverse?: boolean;
  /** Data in the version it was hashed in, not lifted to the current one: for export and verification. */
  readonly asWritten?: boolean;
}

export interface Snapshot {
  readonly position: Position;
  readonly digest: string;
  readonly foldVersion: number;
  readonly state: Uint8Array;
}

/** A checkpoint that was made or witnessed here (checkpoint.ts). */
export interface StoredCheckpoint {
  readonly origin: PeerId;
  /** Number of `config` events it covers. */
  readonly size: number;
  /** The signed note with every cosignature there is. */
  readonly note: string;
  /** The tree at this size (`encodeFrontier`), so that the next one need not begin at the first event. */
  readonly frontier: string;
}

export interface CheckpointStore {
  /** The largest of an origin, or the largest up to a size. */
  latest(origin: PeerId, upTo?: number): StoredCheckpoint | undefined;
  /** All, by origin and size. */
  all(): readonly StoredCheckpoint[];
  /** Hashes (32 bytes) of an origin's `config` events from after one sequence number up to another, read in pages. */
  hashes(origin: PeerId, after: number, until: number): IterableIterator<Uint8Array>;
  /** Replaces the one of that size; keeps the largest few of an origin. */
  put(checkpoint: StoredCheckpoint): void;
}

/** What can be asked of a log without changing it: the live one, or a file opened read-only. */
export interface LogReader {
  readonly origin: PeerId;
  /** Position of the newest event; 0 when empty. */
  readonly head: Position;
  versionVector(): VersionVector;
  /** Events of one origin's `config` stream from `fromSeq` as they were written, whole transactions, at most about `maxEvents`. */
  range(origin: PeerId, fromSeq: number, maxEvents: number): readonly AnyEvent[];
  get(id: EventId): AnyEvent | undefined;
  /** In order of position; all that fit the filter unless it has a limit. */
  read(filter: ReadFilter): readonly AnyEvent[];
  /** Pages of `filter.limit` (default 256), read as they are asked for, so memory stays constant and writers are not held up. */
  pages(filter: ReadFilter, options?: PageOptions): IterableIterator<readonly AnyEvent[]>;
  /**
   * The same in pages of rows as they are stored: position, recorded at (ms), checksum, hashed bytes, hash, signature. What
   * an export reads, since the hashed bytes need no writing again.
   */
  rows(filter: ReadFilter): IterableIterator<readonly EventRow[]>;
  /** Where each chain ends, with the key (base64) pinned for its origin. */
  chains(): readonly PinnedChain[];
  /** Number of config events about an entity: its version for If-Match. */
  entityVersion(entity: string): number;
  /** This host's wall clock (ms since the epoch) when the event was appended here; undefined for a position not held. */
  recordedAt(position: Position): number | undefined;
  /** The newest position recorded here at or before a time (ms since the epoch); 0 when there is none. */
  positionAt(timeMs: number): Position;
  latestSnapshot(name: string): Snapshot | undefined;
  close(): void;
}

/** The append-only log. Synchronous on purpose: an append, its folds and its wake-ups are one tick. */
export interface Log extends LogReader {
  /** Appends events of this host in one durable, signed transaction. Streams follow the catalogue. */
  append(events: readonly AnyNewEvent[], context: AppendContext): readonly AnyEvent[];
  /** What an append under this idempotency key gave; undefined when there was none in the last 7 days. */
  recall(idempotencyKey: string): readonly AnyEvent[] | undefined;
  /**
   * Takes events of one origin's `config` stream, in order and without holes, verifies everything, and stores the whole
   * signed transactions. `publicKey` is the 32-byte key pinned for that origin. Duplicates are harmless. The own origin
   * is taken too: an agent restored from a backup gets its later events back from its peers.
   */
  receive(origin: PeerId, publicKey: Uint8Array, events: readonly AnyEvent[]): ReceiveOutcome;
  /** Calls back inside the append's own tick, in order, after the transaction is durable. Returns the unsubscriber. */
  subscribe(listener: (events: readonly AnyEvent[]) => void): () => void;
  /** Reads everything after `position` first, then follows. */
  subscribeFrom(position: Position, listener: (events: readonly AnyEvent[]) => void): () => void;
  meta: { get(key: string): string | undefined; set(key: string, value: string): void };
  snapshots: {
    /** Keeps the newest two of a name. */
    put(name: string, row: Snapshot): void;
    latest(name: string): Snapshot | undefined;
  };
  readonly checkpoints: CheckpointStore;
}

/** The part of the log that witnessing needs. */
export type CheckpointLog = Pick<Log, 'origin' | 'versionVector' | 'checkpoints'>;
