import type { Position } from './brand.ts';
import type { AnyEvent } from './envelope.ts';
import type { LogReader } from './log-contract.ts';

type Listener = (events: readonly AnyEvent[]) => void;

export interface Subscribers {
  /** Follows from now on; `from` is the current head. Returns the unsubscriber. */
  add(from: Position, listener: Listener): () => void;
  /** Hands over what is stored after a position, page by page, then follows. */
  follow(after: Position, listener: Listener): () => void;
  /** Calls every subscriber. What a subscriber itself appends is delivered to all after this, so all see one order. */
  publish(events: readonly AnyEvent[]): void;
  clear(): void;
}

export function createSubscribers(pages: LogReader['pages'], onError: (error: unknown) => void): Subscribers {
  const all = new Set<{ seen: number; readonly listener: Listener }>();
  const queue: (readonly AnyEvent[])[] = [];
  let publishing = false;

  const register = (from: number, listener: Listener): (() => void) => {
    const entry = { seen: from, listener };
    all.add(entry);
    return () => void all.delete(entry);
  };

  const deliver = (events: readonly AnyEvent[]): void => {
    const last = events.at(-1)?.position ?? 0;
    for (const entry of [...all]) {
      // One that began while this batch stood in the queue has read it from the log already.
      if (entry.seen >= last || !all.has(entry)) continue;
      entry.seen = last;
      try {
        entry.listener(events);
      } catch (error) {
        onError(error);
      }
    }
  };

  return {
    add: register,
    follow(after, listener) {
      let seen: number = after;
      for (const page of pages({ after })) {
        seen = page.at(-1)?.position ?? seen;
        listener(page);
      }
      return register(seen, listener);
    },
    publish(events) {
      queue.push(events);
      if (publishing) return;
      publishing = true;
      try {
        for (let next = queue.shift(); next !== undefined; next = queue.shift()) deliver(next);
      } finally {
        publishing = false;
      }
    },
    clear: () => all.clear(),
  };
}
