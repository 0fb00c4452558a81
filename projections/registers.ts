import { compareStamps, type Stamp } from './stamp.ts';

/** One last-writer-wins register a field: the value and who wrote it. A field nobody wrote has neither. */
export interface Registers<F extends object> {
  readonly values: Partial<F>;
  readonly stamps: Partial<Record<keyof F, Stamp>>;
}

export const emptyRegisters = <F extends object>(): Registers<F> => ({ values: {}, stamps: {} });

/** Writes those of `fields` that `data` carries, each only where `stamp` is later than the writer it replaces. */
export function write<F extends object>(
  registers: Registers<F>,
  fields: readonly (keyof F)[],
  data: Partial<F>,
  stamp: Stamp,
): void {
  for (const field of fields) {
    const value = data[field];
    if (value === undefined) continue;
    const held = registers.stamps[field];
    if (held !== undefined && compareStamps(held, stamp) >= 0) continue;
    registers.values[field] = value;
    registers.stamps[field] = stamp;
  }
}
