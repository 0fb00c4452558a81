/** Counters a window remembers. Requests of one session travel over several connections, so some reordering is normal. */
const SIZE = 4_096;

export interface ReplayWindow {
  /** True once for each counter that is not too old; from then on false. */
  accept(counter: number): boolean;
}

/** Sliding bitmap after RFC 4303 section 3.4.3. Counters start at 1. */
export function createReplayWindow(): ReplayWindow {
  const bits = new Uint8Array(SIZE / 8);
  let newest = 0;
  const index = (counter: number): [number, number] => {
    const slot = counter % SIZE;
    return [slot >> 3, 1 << (slot & 7)];
  };
  return {
    accept(counter) {
      if (!Number.isSafeInteger(counter) || counter < 1 || counter <= newest - SIZE) return false;
      if (counter > newest) {
        const jump = Math.min(counter - newest, SIZE);
        for (let step = 0; step < jump; step += 1) {
          const [byte, bit] = index(counter - step);
          bits[byte] = (bits[byte] ?? 0) & ~bit;
        }
        newest = counter;
      }
      const [byte, bit] = index(counter);
      if (((bits[byte] ?? 0) & bit) !== 0) return false;
      bits[byte] = (bits[byte] ?? 0) | bit;
      return true;
    },
  };
}
