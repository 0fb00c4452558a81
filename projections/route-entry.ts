import type { Cidr, RouteKey, ServiceId } from '../events/brand.ts';
import type { EventData } from '../events/catalogue.ts';
import type { Registers } from './registers.ts';
import { compareStamps, type Stamp } from './stamp.ts';

export type RouteFields = Pick<EventData['route.added'], 'priority' | 'source_cidr' | 'dest_cidr'>;
export const ROUTE_FIELDS = [
  'priority',
  'source_cidr',
  'dest_cidr',
] as const satisfies readonly (keyof RouteFields)[];

/**
 * One route as the fold keeps it. Of these there may be 100,000, so its registers are fields of its own, its row is made when
 * asked for, and nothing is stored twice.
 */
export interface RouteEntry {
  readonly key: RouteKey;
  priority: number | undefined;
  source_cidr: Cidr | null | undefined;
  dest_cidr: Cidr | null | undefined;
  /** Who wrote the fields: one stamp where one event wrote them all, otherwise in the order of `ROUTE_FIELDS`. */
  writers: Stamp | (Stamp | undefined)[] | undefined;
  /** Of the earliest `route.added`; undefined while only an update has arrived. */
  added: Stamp | undefined;
  service: ServiceId | undefined;
  proposed: number;
  deleted: Stamp | undefined;
  version: number;
  /** Whether it counts, as it is, in its service's sum. */
  isCounted: boolean;
  /** Where it stands in `byPrefixes`; -1 for nowhere. */
  bucket: number;
  /** The last dump that it is written in, or that began before it was there. */
  dumped: number;
}

export const newEntry = (key: RouteKey, dumped: number): RouteEntry => ({
  key,
  priority: undefined,
  source_cidr: undefined,
  dest_cidr: undefined,
  writers: undefined,
  added: undefined,
  service: undefined,
  proposed: 0,
  deleted: undefined,
  version: 0,
  isCounted: false,
  bucket: -1,
  dumped,
});

function writerOf({ writers }: RouteEntry, index: number): Stamp | undefined {
  return isList(writers) ? writers[index] : writers;
}

const isList = (writers: RouteEntry['writers']): writers is (Stamp | undefined)[] => Array.isArray(writers);

/**
 * Writes the fields that `data` carries, each only where `stamp` is later than the writer it replaces. The list of writers is
 * the entry's own and changed in place: a replay does this a million times, and what it leaves behind is all work for V8.
 */
export function writeFields(entry: RouteEntry, data: Partial<RouteFields>, stamp: Stamp): void {
  let writers = entry.writers;
  for (let index = 0; index < ROUTE_FIELDS.length; index += 1) {
    const field = ROUTE_FIELDS[index] as keyof RouteFields;
    const value = data[field];
    if (value === undefined) continue;
    const held = isList(writers) ? writers[index] : writers;
    if (held !== undefined && compareStamps(held, stamp) >= 0) continue;
    setField(entry, field, value);
    if (!isList(writers)) writers = [writers, writers, writers];
    writers[index] = stamp;
  }
  if (isList(writers)) setWriters(entry, writers);
}

function setWriters(entry: RouteEntry, writers: (Stamp | undefined)[]): void {
  const [first, second, third] = writers;
  entry.writers = first === second && first === third ? first : writers;
}

function setField<F extends keyof RouteFields>(entry: RouteEntry, field: F, value: RouteFields[F]): void {
  (entry as Partial<RouteFields>)[field] = value;
}

/** A tombstone keeps no values. */
export function clearFields(entry: RouteEntry): void {
  entry.priority = undefined;
  entry.source_cidr = undefined;
  entry.dest_cidr = undefined;
  entry.writers = undefined;
}

/** The fields as registers, for whoever explains or stores them. */
export function registersOf(entry: RouteEntry): Registers<RouteFields> {
  const registers: Registers<RouteFields> = { values: {}, stamps: {} };
  ROUTE_FIELDS.forEach((field, index) => {
    const stamp = writerOf(entry, index);
    if (stamp === undefined) return;
    registers.stamps[field] = stamp;
    (registers.values as Record<string, unknown>)[field] = entry[field];
  });
  return registers;
}

/** The inverse of `registersOf`. */
export function restoreFields(entry: RouteEntry, { values, stamps }: Registers<RouteFields>): void {
  for (const field of ROUTE_FIELDS) {
    const value = values[field];
    if (value !== undefined) setField(entry, field, value);
  }
  setWriters(
    entry,
    ROUTE_FIELDS.map((field) => stamps[field]),
  );
}
