import { versionOf } from './catalogue.ts';

type Data = Readonly<Record<string, unknown>>;
/** Lifts the data of one version to the next. Pure; must accept whatever the old schema accepted. */
export type Upcaster = (data: Data) => Data;

/** `type -> version -> step to version + 1`. */
export type UpcasterTable = Readonly<Record<string, Readonly<Record<number, Upcaster>>>>;

/**
 * Every step ever needed. A type's version in the catalogue goes up only together with its step here and a golden
 * history of the old version in `fixtures/histories/`. Stored events are never rewritten: hashes cover the old form.
 */
const UPCASTERS: UpcasterTable = {};

/** Data in the current version; as it is for unknown types and newer versions; undefined when a step is missing. */
export type Upcast = (type: string, version: number, data: Data) => Data | undefined;

/** `versionOf`: current version of a type, undefined for an unknown one. */
export function createUpcast(table: UpcasterTable, versionOf: (type: string) => number | undefined): Upcast {
  return (type, version, data) => {
    const current = versionOf(type);
    if (current === undefined || version >= current) return data;
    const steps = table[type];
    let lifted = data;
    for (let v = version; v < current; v += 1) {
      const step = steps?.[v];
      if (step === undefined) return undefined;
      lifted = step(lifted);
    }
    return lifted;
  };
}

export const upcast: Upcast = createUpcast(UPCASTERS, versionOf);
