import type { Position } from '../../../events/brand.ts';
import type { AnyEvent } from '../../../events/envelope.ts';
import type { Log } from '../../../events/log-contract.ts';

type Row = { position: Position; digest: string; foldVersion: number; state: Uint8Array };

/** What the projections need of a log, over an array; the real log has its own tests and is used beside it. */
export class MemoryLog implements Pick<Log, 'pages' | 'subscribe' | 'head' | 'snapshots'> {
  readonly events: AnyEvent[] = [];
  readonly stored = new Map<string, Row>();
  readonly #listeners = new Set<(events: readonly AnyEvent[]) => void>();

  get head(): Position {
    return this.events.length as Position;
  }

  append(events: readonly AnyEvent[]): void {
    const placed = events.map(
      (event, index) => ({ ...event, position: this.events.length + index + 1 }) as unknown as AnyEvent,
    );
    this.events.push(...placed);
    for (const listener of this.#listeners) listener(placed);
  }

  *pages(filter: Parameters<Log['pages']>[0]): IterableIterator<readonly AnyEvent[]> {
    const { after = 0, until = Number.POSITIVE_INFINITY, limit = 512 } = filter;
    for (let from: number = after; from < Math.min(until, this.events.length); from += limit)
      yield this.events.slice(from, Math.min(from + limit, until));
  }

  subscribe(listener: (events: readonly AnyEvent[]) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  readonly snapshots: Log['snapshots'] = {
    put: (name, row) => void this.stored.set(name, row),
    latest: (name) => this.stored.get(name),
  };
}
