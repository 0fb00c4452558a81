import type { PeerId, Position } from '../../events/brand.ts';
import type { AnyEvent } from '../../events/envelope.ts';
import type { Fold } from '../../projections/fold.ts';
import type { GossipLog } from '../../src/gossip/machine/core.ts';

/** The history every host starts with: kept once, however many hosts there are. */
export interface Ground {
  readonly views: Fold;
  readonly chains: ReadonlyMap<PeerId, readonly AnyEvent[]>;
  readonly size: number;
}

/** What a change says; the rest of the event follows from the one before. */
export interface Draft {
  readonly type: string;
  readonly entity: string;
  readonly data: object;
}

/** A log that shares its beginning with all others. Signatures are not looked at: nobody in the crowd lies. */
export class SharedLog implements GossipLog {
  readonly origin: PeerId;
  readonly meta: GossipLog['meta'];
  readonly #ground: Ground;
  readonly #own = new Map<PeerId, AnyEvent[]>();
  readonly #listeners = new Set<(events: readonly AnyEvent[]) => void>();
  readonly #make: (previous: AnyEvent, draft: Draft) => AnyEvent;
  #head: number;
  /** Local events are counted, not kept. */
  readonly local = new Map<string, number>();
  /** Peers this host gave up, in order. */
  unreachable: PeerId[] = [];

  constructor(origin: PeerId, ground: Ground, make: (previous: AnyEvent, draft: Draft) => AnyEvent) {
    this.origin = origin;
    this.#ground = ground;
    this.#head = ground.size;
    this.#make = make;
    const values = new Map<string, string>();
    this.meta = { get: (key) => values.get(key), set: (key, value) => void values.set(key, value) };
  }

  get head(): Position {
    return this.#head as Position;
  }

  #length(origin: PeerId): number {
    return (this.#ground.chains.get(origin)?.length ?? 0) + (this.#own.get(origin)?.length ?? 0);
  }

  #store(origin: PeerId, events: readonly AnyEvent[]): void {
    const list = this.#own.get(origin) ?? [];
    list.push(...events);
    this.#own.set(origin, list);
    this.#head += events.length;
    for (const listener of this.#listeners) listener(events);
  }

  /** A change of this host: of its version label, or what the draft says. */
  write(change: string | Draft): AnyEvent {
    const last = this.range(this.origin, this.#length(this.origin), 1)[0];
    const [any] = this.#ground.chains.values();
    const previous = last ?? { ...any?.[0], origin: this.origin, seq: 0, hash: '0'.repeat(64) };
    const event = this.#make(
      previous as AnyEvent,
      typeof change === 'string'
        ? { type: 'peer.updated', entity: this.origin, data: { version: change } }
        : change,
    );
    this.#store(this.origin, [event]);
    return event;
  }

  append: GossipLog['append'] = (drafts) => {
    for (const { type, entity } of drafts) {
      this.local.set(type, (this.local.get(type) ?? 0) + 1);
      if (type === 'peer.unreachable') this.unreachable.push(entity as PeerId);
    }
    return [];
  };

  receive: GossipLog['receive'] = (from, _key, batch) => {
    const have = this.#length(from);
    const first = batch[0];
    if (first !== undefined && first.seq > have + 1) return { kind: 'gap', have };
    const fresh = batch.filter((event) => event.seq > have);
    if (fresh.length > 0) this.#store(from, fresh);
    return { kind: 'appended', events: fresh, duplicates: batch.length - fresh.length, ignored: 0 };
  };

  versionVector: GossipLog['versionVector'] = () =>
    Object.fromEntries(
      [...new Set([...this.#ground.chains.keys(), ...this.#own.keys()])].map((origin) => [
        origin,
        this.#length(origin),
      ]),
    );

  /** What came after the beginning, in words that are the same for the same. */
  get later(): string {
    return [...this.#own]
      .map(([origin, events]) => `${origin} ${events.map((event) => event.hash).join(' ')}`)
      .sort()
      .join('\n');
  }

  /** Events held of what came after the beginning. */
  *added(): Generator<AnyEvent> {
    for (const events of this.#own.values()) yield* events;
  }

  range: GossipLog['range'] = (origin, fromSeq, most) => {
    const ground = this.#ground.chains.get(origin) ?? [];
    const own = this.#own.get(origin) ?? [];
    const after = Math.max(0, fromSeq - 1 - ground.length);
    return [...ground.slice(fromSeq - 1, fromSeq - 1 + most), ...own.slice(after, after + most)].slice(
      0,
      most,
    );
  };

  read: GossipLog['read'] = () => [];

  subscribe: GossipLog['subscribe'] = (listener) => {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  };
}
