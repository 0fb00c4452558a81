/** Repairs of one item in a minute from which somebody is fighting us over it. */
const REPAIRS = 5;
const WINDOW_MS = 60_000;
/** Then repairs slow down instead of burning the processor: twice as slow at each further one. */
const FIRST_DELAY_MS = 5_000;
const LONGEST_DELAY_MS = 60_000;
/** Items watched at once; a foreign change of more of them is no fight over one. */
const MOST_ITEMS = 1_000;

/** Knows which items another program keeps changing back. Times are of a monotonic clock, ms. */
export class Fights {
  readonly #repairs = new Map<string, number[]>();

  /** Notes a repair; answers the item over which a fight has just begun. */
  repaired(items: readonly string[], now: number): string | undefined {
    this.#forget(now);
    let began: string | undefined;
    for (const item of items) {
      const times = this.#repairs.get(item);
      if (times !== undefined) times.push(now);
      else if (this.#repairs.size < MOST_ITEMS) this.#repairs.set(item, [now]);
      if (times?.length === REPAIRS + 1) began ??= item;
    }
    return began;
  }

  /** An item under fight. */
  item(now: number): string | undefined {
    this.#forget(now);
    for (const [item, times] of this.#repairs) if (times.length > REPAIRS) return item;
    return undefined;
  }

  /** How long to wait before the next repair; 0 while nobody fights. */
  delayMs(now: number): number {
    this.#forget(now);
    let most = 0;
    for (const times of this.#repairs.values()) most = Math.max(most, times.length);
    return most > REPAIRS ? Math.min(LONGEST_DELAY_MS, FIRST_DELAY_MS * 2 ** (most - REPAIRS - 1)) : 0;
  }

  /** A window that began with the last repair: a fight ends when a minute has passed without one. */
  #forget(now: number): void {
    for (const [item, times] of this.#repairs) {
      const last = times.at(-1) ?? 0;
      const isFight = times.length > REPAIRS;
      const kept = isFight
        ? now - last > WINDOW_MS * 2
          ? []
          : times
        : times.filter((at) => now - at < WINDOW_MS);
      if (kept.length === 0) this.#repairs.delete(item);
      else if (kept.length < times.length) this.#repairs.set(item, kept);
    }
  }
}
