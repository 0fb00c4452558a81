import { compareStamps, type Stamp } from './stamp.ts';

/** Edits from which making the rows anew is no dearer. */
const MOST_EDITS = 32;

/**
 * Entries in order of creation. Almost every entry is the newest when it comes, so adding is an append; a late arrival
 * (another peer's older event) is put in its place by binary search. The list of rows is made when asked for and kept.
 */
export class OldestFirst<E, Row> {
  readonly #stampOf: (entry: E) => Stamp;
  readonly #rowOf: (entry: E) => Row;
  readonly #entries: E[] = [];
  readonly #weakly: boolean;
  #rows: { deref(): readonly Row[] | undefined } | undefined;
  /** What has happened to the entries since the rows were made; too much of it makes them anew. */
  #edits: { readonly kind: 'put' | 'insert' | 'remove'; readonly index: number; readonly entry: E }[] = [];

  /** `weakly`: the list may be collected as garbage; 100,000 rows are as large as what they are made from. */
  constructor(
    stampOf: (entry: E) => Stamp,
    rowOf: (entry: E) => Row,
    options: { readonly weakly?: boolean } = {},
  ) {
    this.#weakly = options.weakly ?? false;
    this.#stampOf = stampOf;
    this.#rowOf = rowOf;
  }

  get size(): number {
    return this.#entries.length;
  }

  get entries(): readonly E[] {
    return this.#entries;
  }

  /** Rows, oldest first; the same array until something changes. A few changes cost a copy, not every row. */
  get rows(): readonly Row[] {
    const rows = this.#current();
    if (rows !== this.#rows?.deref()) this.#rows = this.#weakly ? new WeakRef(rows) : { deref: () => rows };
    this.#edits = [];
    return rows;
  }

  #current(): readonly Row[] {
    const held = this.#rows?.deref();
    if (held === undefined) return this.#entries.map(this.#rowOf);
    if (this.#edits.length === 0) return held;
    const rows = held.slice();
    for (const { kind, index, entry } of this.#edits) {
      if (kind === 'remove') rows.splice(index, 1);
      else rows.splice(index, kind === 'put' ? 1 : 0, this.#rowOf(entry));
    }
    return rows;
  }

  /** The row of an entry changed; without one, any may have. */
  touch(entry?: E): void {
    // Nobody has asked for rows, as in a replay: no place to look for.
    if (this.#rows === undefined) return;
    if (entry === undefined) this.#rows = undefined;
    else {
      const index = this.#indexOf(this.#stampOf(entry));
      if (this.#entries[index] === entry) this.#edit('put', index, entry);
    }
  }

  add(entry: E): void {
    const stamp = this.#stampOf(entry);
    const last = this.#entries.at(-1);
    const isNewest = last === undefined || compareStamps(this.#stampOf(last), stamp) < 0;
    const index = isNewest ? this.#entries.length : this.#indexOf(stamp);
    if (isNewest) this.#entries.push(entry);
    else this.#entries.splice(index, 0, entry);
    this.#edit('insert', index, entry);
  }

  #edit(kind: 'put' | 'insert' | 'remove', index: number, entry: E): void {
    if (this.#rows === undefined) return;
    if (this.#edits.length < MOST_EDITS) this.#edits.push({ kind, index, entry });
    else {
      this.#rows = undefined;
      this.#edits = [];
    }
  }

  /** Removes an entry, found by the stamp it was added under. */
  remove(entry: E): void {
    const index = this.#indexOf(this.#stampOf(entry));
    if (this.#entries[index] !== entry) return;
    this.#entries.splice(index, 1);
    this.#edit('remove', index, entry);
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
