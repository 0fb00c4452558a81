/** A look at something from time to time. */

export interface Recurring {
  /** The first look comes one interval from now; a second call changes nothing. */
  start(): void;
  /** No look comes after this; may be started again. */
  stop(): void;
}

/**
 * Runs `look` every `ms` milliseconds between `start()` and `stop()`. The next one is set after a look has ended, so that looks
 * never overlap.
 */
export function recurring(
  clock: { after(ms: number, run: () => void): () => void },
  ms: number,
  look: () => void,
): Recurring {
  let cancel: (() => void) | undefined;

  function wait(): void {
    const mine = clock.after(ms, () => {
      look();
      // A look may have stopped them, or stopped and started them.
      if (cancel === mine) wait();
    });
    cancel = mine;
  }

  return {
    start() {
      if (cancel === undefined) wait();
    },
    stop() {
      cancel?.();
      cancel = undefined;
    },
  };
}
