import type { EventId, Hlc, PeerId } from '../events/brand.ts';
import type { Registers } from './registers.ts';
import type { Stamp } from './stamp.ts';

/**
 * Snapshots are JSON arrays of scalars: JSON.parse is the fastest reader Node has. Every stamp is written once and referred to
 * by its index, because the fields of one event share it; -1 stands for none.
 */
export class StampWriter {
  readonly #indexes = new Map<Stamp, number>();
  readonly #origins = new Map<PeerId, number>();
  readonly #flat: (string | number)[] = [];

  index(stamp: Stamp | undefined): number {
    if (stamp === undefined) return -1;
    const known = this.#indexes.get(stamp);
    if (known !== undefined) return known;
    const origin = this.#origins.get(stamp.origin) ?? this.#origins.size;
    this.#origins.set(stamp.origin, origin);
    const index = this.#indexes.size;
    this.#indexes.set(stamp, index);
    this.#flat.push(stamp.hlc, origin, stamp.id);
    return index;
  }

  dump(): StampDump {
    return { origins: [...this.#origins.keys()], flat: this.#flat };
  }
}

export interface StampDump {
  readonly origins: readonly string[];
  readonly flat: readonly (string | number)[];
}

export class StampReader {
  readonly #stamps: Stamp[] = [];

  constructor(dump: StampDump) {
    const { origins, flat } = dump;
    for (let at = 0; at < flat.length; at += 3)
      this.#stamps.push({
        hlc: flat[at] as Hlc,
        origin: origins[flat[at + 1] as number] as PeerId,
        id: flat[at + 2] as EventId,
      });
  }

  at(index: number): Stamp | undefined {
    return this.#stamps[index];
  }

  /** A stamp that has to be there. */
  need(index: number): Stamp {
    const stamp = this.#stamps[index];
    if (stamp === undefined) throw new Error(`snapshot refers to stamp ${index}, which it does not hold`);
    return stamp;
  }
}

/** A register as `[stamp index, value]` pairs in the order of `fields`; a field nobody wrote is `-1` alone. */
export function dumpRegisters<F extends object>(
  registers: Registers<F>,
  fields: readonly (keyof F)[],
  stamps: StampWriter,
  into: unknown[],
): void {
  for (const field of fields) {
    const index = stamps.index(registers.stamps[field]);
    into.push(index);
    if (index >= 0) into.push(registers.values[field]);
  }
}

/** Reads what `dumpRegisters` wrote, from `at`; returns where the next value starts. */
export function loadRegisters<F extends object>(
  registers: Registers<F>,
  fields: readonly (keyof F)[],
  stamps: StampReader,
  from: readonly unknown[],
  at: number,
): number {
  let next = at;
  for (const field of fields) {
    const index = from[next++] as number;
    if (index < 0) continue;
    registers.stamps[field] = stamps.need(index);
    registers.values[field] = from[next++] as F[typeof field];
  }
  return next;
}
