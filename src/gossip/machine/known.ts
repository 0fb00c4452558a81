import type { PeerId } from '../../../events/brand.ts';
import { type Tip, type Tips, TipTable } from './tips.ts';

/**
 * What a peer holds, by its last word. In a quiet cluster that is exactly what this host holds, so the base is the history's
 * own table and only what differs takes memory of its own: a thousand links cost no million entries.
 */
export class Known implements Tips {
  #base: TipTable = TipTable.empty;
  #others: Map<PeerId, Tip | undefined> | undefined;

  get(origin: PeerId): Tip | undefined {
    return this.#others?.has(origin) === true ? this.#others.get(origin) : this.#base.get(origin);
  }

  /** The peer holds at least this. */
  raise(origin: PeerId, tip: Tip): void {
    if ((this.get(origin)?.seq ?? 0) >= tip.seq) return;
    this.#others ??= new Map();
    this.#others.set(origin, tip);
  }

  /** The peer holds what this host does. */
  agree(ours: TipTable): void {
    this.#base = ours;
    this.#others = undefined;
  }

  /** The peer's whole vector; what it shares with ours is kept once. */
  reset(ours: TipTable, theirs: ReadonlyMap<PeerId, Tip>): void {
    this.agree(ours);
    const others = new Map<PeerId, Tip | undefined>();
    for (const [origin, tip] of theirs) {
      const mine = ours.get(origin);
      if (mine?.seq !== tip.seq || mine.hash !== tip.hash) others.set(origin, tip);
    }
    if (theirs.size - others.size < ours.size)
      for (const origin of ours.origins()) if (!theirs.has(origin)) others.set(origin, undefined);
    if (others.size > 0) this.#others = others;
  }

  forget(origin: PeerId): void {
    this.#others ??= new Map();
    this.#others.set(origin, undefined);
  }

  *[Symbol.iterator](): IterableIterator<readonly [PeerId, Tip]> {
    for (const one of this.#base) if (this.#others?.has(one[0]) !== true) yield one;
    for (const [origin, tip] of this.#others ?? []) if (tip !== undefined) yield [origin, tip];
  }
}
