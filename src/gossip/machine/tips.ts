import type { PeerId } from '../../../events/brand.ts';

/** The end of what is held of one origin. */
export interface Tip {
  readonly seq: number;
  readonly hash: string;
}

export interface Tips extends Iterable<readonly [PeerId, Tip]> {
  get(origin: PeerId): Tip | undefined;
}

const CHUNKS = 32;
/** The last characters of an id are its random ones. */
const chunkOf = (origin: PeerId): number =>
  (origin.charCodeAt(origin.length - 1) + 7 * origin.charCodeAt(origin.length - 2)) % CHUNKS;

const EMPTY: ReadonlyMap<PeerId, Tip> = new Map();

/**
 * A table of tips that never changes: another one is made of it that shares all but a thirty-second part. Each link of a host
 * remembers the table it last agreed on, so under constant change a thousand links remember many, and whole copies would add up.
 */
export class TipTable implements Tips {
  readonly size: number;
  readonly #chunks: readonly ReadonlyMap<PeerId, Tip>[];

  private constructor(chunks: readonly ReadonlyMap<PeerId, Tip>[]) {
    this.#chunks = chunks;
    this.size = chunks.reduce((sum, chunk) => sum + chunk.size, 0);
  }

  static readonly empty = new TipTable(Array.from({ length: CHUNKS }, () => EMPTY));

  get(origin: PeerId): Tip | undefined {
    return this.#chunks[chunkOf(origin)]?.get(origin);
  }

  /** With these tips in the place of, or beside, its own; undefined takes one out. */
  with(changes: Iterable<readonly [PeerId, Tip | undefined]>): TipTable {
    const chunks: ReadonlyMap<PeerId, Tip>[] = [...this.#chunks];
    const copied = new Map<number, Map<PeerId, Tip>>();
    for (const [origin, tip] of changes) {
      const at = chunkOf(origin);
      let chunk = copied.get(at);
      if (chunk === undefined) {
        chunk = new Map(chunks[at]);
        copied.set(at, chunk);
        chunks[at] = chunk;
      }
      if (tip === undefined) chunk.delete(origin);
      else chunk.set(origin, tip);
    }
    return copied.size === 0 ? this : new TipTable(chunks);
  }

  *[Symbol.iterator](): IterableIterator<readonly [PeerId, Tip]> {
    for (const chunk of this.#chunks) yield* chunk;
  }

  *origins(): IterableIterator<PeerId> {
    for (const chunk of this.#chunks) yield* chunk.keys();
  }
}
