/**
 * The sequence numbers of one origin that were folded, as sorted disjoint ranges. The log delivers each origin gaplessly, so
 * this is one range in practice; ranges keep the fold indifferent to order and duplicates without remembering every id.
 */
export class SequenceSet {
  /** Flat pairs `first, last`. */
  readonly #ranges: number[];

  constructor(ranges: readonly number[] = []) {
    this.#ranges = [...ranges];
  }

  get ranges(): readonly number[] {
    return this.#ranges;
  }

  /** 0 when there is none. */
  get highest(): number {
    return this.#ranges.at(-1) ?? 0;
  }

  /** Adds a number; false when it was there already. */
  add(seq: number): boolean {
    const ranges = this.#ranges;
    const end = ranges.length;
    const last = ranges[end - 1];
    if (last === undefined || seq > last + 1) {
      ranges.push(seq, seq);
      return true;
    }
    if (seq === last + 1) {
      ranges[end - 1] = seq;
      return true;
    }
    return this.#insert(seq);
  }

  #insert(seq: number): boolean {
    const ranges = this.#ranges;
    let low = 0;
    let high = ranges.length / 2;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((ranges[middle * 2 + 1] ?? 0) < seq) low = middle + 1;
      else high = middle;
    }
    // `low` is the first range that ends at or after seq.
    const at = low * 2;
    const first = ranges[at] ?? Number.POSITIVE_INFINITY;
    if (seq >= first) return false;
    const joinsBefore = at > 0 && ranges[at - 1] === seq - 1;
    const joinsAfter = first === seq + 1;
    if (joinsBefore && joinsAfter) ranges.splice(at - 1, 2);
    else if (joinsBefore) ranges[at - 1] = seq;
    else if (joinsAfter) ranges[at] = seq;
    else ranges.splice(at, 0, seq, seq);
    return true;
  }
}
