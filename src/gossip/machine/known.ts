import type { PeerId } from '../../../events/brand.ts';
import type { Tip, Tips } from './history.ts';

/**
 * What a peer holds, by its last word. In a quiet cluster that is exactly what this host holds, so the base is shared with the
 * history's own table and only what came after it takes memory of its own: a thousand links cost no million entries.
 */
export class Known {
  #base: Tips = new Map();
  #later: Map<PeerId, Tip | undefined> | undefined;

  get(origin: PeerId): Tip | undefined {
    return this.#later?.has(origin) === true ? this.#later.get(origin) : this.#base.get(origin);
  }

  /** The peer holds at least this. */
  raise(origin: PeerId, tip: Tip): void {
    if ((this.get(origin)?.seq ?? 0) >= tip.seq) return;
    this.#later ??= new Map();
    this.#later.set(origin, tip);
  }

  /** The peer's whole vector; the table must not change any more. */
  reset(tips: Tips): void {
    this.#base = tips;
    this.#later = undefined;
  }

  forget(origin: PeerId): void {
    this.#later ??= new Map();
    this.#later.set(origin, undefined);
  }

  *[Symbol.iterator](): IterableIterator<[PeerId, Tip]> {
    for (const [origin, tip] of this.#base) if (this.#later?.has(origin) !== true) yield [origin, tip];
    for (const [origin, tip] of this.#later ?? []) if (tip !== undefined) yield [origin, tip];
  }
}
