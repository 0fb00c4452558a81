import { compareStamps, type Stamp } from './stamp.ts';

/**
 * Entries in order of creation. Almost every entry is the newest when it comes, so adding is an append; a late arrival
 * (another peer's older event) is put in its place by binary search. The list of rows is made when asked for and kept.
 */
export class OldestFirst<E, Row> {
  readonly #stampOf: (entry: E) => Stamp;
  readonly #rowOf: (entry: E) => Row;
  readonly #entries: E[] = [];
  #rows: readonly Row[] | undefined;

  constructor(stampOf: (entry: E) => Stamp, rowOf: (entry: E) => Row) {
    this.#stampOf = stampOf;
    this.#rowOf = rowOf;
  }

  get size(): number {
    return this.#entries.length;
  }

  get entries(): readonly E[] {
    return this.#entries;
  }

  /** Rows, oldest first; the same array until something changes. */
  get rows(): readonly Row[] {
    this.#rows ??= this.#entries.map(this.#rowOf);
    return this.#rows;
  }

  /** A row of an entry that stays changed. */
  touch(): void {
    this.#rows = undefined;
  }

  add(entry: E): void {
    const stamp = this.#stampOf(entry);
    const last = this.#entries.at(-1);
    if (last === undefined || compareStamps(this.#stampOf(last), stamp) < 0) this.#entries.push(entry);
    else this.#entries.splice(this.#indexOf(stamp), 0, entry);
    this.#rows = undefined;
  }

  /** Removes an entry, found by the stamp it was added under. */
  remove(entry: E): void {
    const index = this.#indexOf(this.#stampOf(entry));
    if (this.#entries[index] !== entry) return;
    this.#entries.splice(index, 1);
    this.#rows = undefined;
  }

  #indexOf(stamp: Stamp): number {
    let low = 0;
    let high = this.#entries.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      const entry = this.#entries[middle];
      if (entry !== undefined && compareStamps(this.#stampOf(entry), stamp) < 0) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}
