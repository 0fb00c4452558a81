import type { PeerId } from '../../../events/brand.ts';
import type { AnyEvent } from '../../../events/envelope.ts';
import type { Batch } from '../messages.ts';

export type Travelling = Batch['events'][number];

export interface RecentEvent {
  readonly seq: number;
  readonly hash: string;
  readonly signed: boolean;
  /** Without `position`, which is this host's own affair. */
  readonly travelling: Travelling;
  /** Length of its JSON, characters. */
  readonly size: number;
}

export const recentOf = (event: AnyEvent): RecentEvent => {
  const { position: _, ...travelling } = event;
  return {
    seq: event.seq,
    hash: event.hash,
    signed: event.signature !== null,
    travelling: travelling as unknown as Travelling,
    size: JSON.stringify(travelling).length,
  };
};

/** A new event goes to every peer at once, and each peer is compared with for a while: it is not read from the disk each time. */
const MOST_EVENTS = 512;
/** Characters of all of them together. */
const MOST_SIZE = 1_048_576;

export interface RecentEvents {
  add(event: AnyEvent): void;
  get(origin: PeerId, seq: number): RecentEvent | undefined;
}

export function createRecentEvents(): RecentEvents {
  /** Oldest first: a Map keeps the order of insertion. */
  const held = new Map<string, RecentEvent>();
  let size = 0;
  const key = (origin: PeerId, seq: number): string => `${origin}:${seq}`;
  return {
    add(event) {
      const recent = recentOf(event);
      if (recent.size > MOST_SIZE / 16) return;
      held.set(key(event.origin, event.seq), recent);
      size += recent.size;
      for (const [oldest, { size: freed }] of held) {
        if (held.size <= MOST_EVENTS && size <= MOST_SIZE) break;
        held.delete(oldest);
        size -= freed;
      }
    },
    get: (origin, seq) => held.get(key(origin, seq)),
  };
}
