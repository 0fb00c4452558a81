import type { Hlc, RouteKey, ServiceId } from '../events/brand.ts';
import type { AnyEvent } from '../events/envelope.ts';
import { listDigest, rowDigest } from './digest.ts';
import { OldestFirst } from './oldest-first.ts';
import { emptyRegisters, type Registers } from './registers.ts';
import {
  clearFields,
  newEntry,
  ROUTE_FIELDS,
  type RouteEntry,
  type RouteFields,
  registersOf,
  restoreFields,
  writeFields,
} from './route-entry.ts';
import { dumpRegisters, loadRegisters, type StampReader, type StampWriter } from './snapshot-codec.ts';
import { compareStamps, earlier, type Stamp, timeOf } from './stamp.ts';
import type { RouteCollection, RouteView } from './views.ts';

export { ROUTE_FIELDS };

const MODULUS = 1n << 256n;

/** Numbers proposed more than once are told apart by their rank, in steps of this. */
const RANK_STEP = 2 ** 32;

/** Entries dumped before the event loop gets its turn, some 3 ms. */
const ENTRIES_A_TURN = 2_000;

interface OfService {
  readonly live: OldestFirst<RouteEntry, RouteView>;
  /** Everything that ever proposed a number, earliest first, deleted ones too: so a number, once seen, stays. */
  readonly proposals: Map<number, RouteEntry | RouteEntry[]>;
  highest: number;
  /** The digests of the live routes added up modulo 2^256; entries of `dirty` are not in it. */
  sum: bigint;
  readonly dirty: Set<RouteEntry>;
  /** The live ones by a hash of their prefixes: numbers, because text as key would cost as much as the routes. */
  readonly byPrefixes: Map<number, RouteEntry | RouteEntry[]>;
}

const NONE: readonly RouteView[] = [];

/** Routes, grouped by service. Those of a service that is deleted or not known (yet) are held, and shown to nobody. */
export class Routes implements RouteCollection {
  readonly #isLive: (service: ServiceId) => boolean;
  readonly #all = new Map<RouteKey, RouteEntry>();
  readonly #services = new Map<ServiceId, OfService>();
  #renumbered: RouteKey[] = [];
  #dumps = 0;
  #dumping: { readonly number: number; readonly writeEntry: (entry: RouteEntry) => void } | undefined;

  constructor(isLive: (service: ServiceId) => boolean) {
    this.#isLive = isLive;
  }

  get size(): number {
    let size = 0;
    for (const [service, routes] of this.#services) if (this.#isLive(service)) size += routes.live.size;
    return size;
  }

  get(key: RouteKey): RouteView | undefined {
    const entry = this.#all.get(key);
    if (!entry?.added || entry.deleted || !entry.service || !this.#isLive(entry.service)) return undefined;
    return this.#row(entry);
  }

  byNumber(service: ServiceId, number: number): RouteView | undefined {
    const rank = Math.floor((number - 1) / RANK_STEP);
    const entry = entriesOf(this.#services.get(service)?.proposals.get(numberClass(number)))[rank];
    return entry && this.get(entry.key);
  }

  numberOf(key: RouteKey): number | undefined {
    const entry = this.#all.get(key);
    return entry?.added && this.#numberOf(entry);
  }

  ofService(service: ServiceId): readonly RouteView[] {
    const routes = this.#services.get(service);
    return routes && this.#isLive(service) ? routes.live.rows : NONE;
  }

  countOf(service: ServiceId): number {
    return this.#isLive(service) ? (this.#services.get(service)?.live.size ?? 0) : 0;
  }

  *eachOf(service: ServiceId): Iterable<RouteView> {
    const group = this.#isLive(service) ? this.#services.get(service) : undefined;
    for (const entry of group?.live.entries ?? []) yield this.#row(entry);
  }

  withPrefixes(service: ServiceId, source: string | null, dest: string | null): readonly RouteView[] {
    const group = this.#isLive(service) ? this.#services.get(service) : undefined;
    return entriesOf(group?.byPrefixes.get(hashPrefixes(source, dest)))
      .map((entry) => this.#row(entry))
      .filter((row) => row.source_cidr === source && row.dest_cidr === dest)
      .sort((a, b) => (a.created_hlc < b.created_hlc ? -1 : a.created_hlc > b.created_hlc ? 1 : 0));
  }

  nextNumber(service: ServiceId): number {
    return (this.#services.get(service)?.highest ?? 0) + 1;
  }

  history(key: string): { registers: Registers<RouteFields>; deleted: Stamp | undefined } | undefined {
    const entry = this.#all.get(key as RouteKey);
    return entry && { registers: registersOf(entry), deleted: entry.deleted };
  }

  /** Folds an event about a route; returns the service it belongs to, when known. */
  apply(event: AnyEvent, stamp: Stamp): ServiceId | undefined {
    const entry = this.#entry(event.entity as RouteKey);
    this.#dumping?.writeEntry(entry);
    this.#uncount(entry);
    entry.version += 1;
    let moved = true;
    if (event.type === 'route.added') {
      if (entry.deleted === undefined) writeFields(entry, event.data, stamp);
      if (entry.added === undefined || compareStamps(stamp, entry.added) < 0) {
        this.#detach(entry);
        entry.added = stamp;
        entry.service = event.data.service_id as ServiceId;
        entry.proposed = event.data.number;
        this.#attach(entry);
      }
    } else if (event.type === 'route.updated') {
      const { data } = event;
      if (entry.deleted === undefined) writeFields(entry, data, stamp);
      moved = data.source_cidr !== undefined || data.dest_cidr !== undefined;
    } else if (event.type === 'route.deleted') {
      if (entry.deleted === undefined && entry.added && entry.service)
        this.#services.get(entry.service)?.live.remove(entry);
      entry.deleted = earlier(entry.deleted, stamp);
      clearFields(entry);
    }
    const group = entry.service && this.#services.get(entry.service);
    if (group) {
      group.live.touch(entry);
      group.dirty.add(entry);
      if (moved) place(group, entry);
    }
    return entry.service;
  }

  digest(services: Iterable<ServiceId>): string {
    const parts: string[] = [];
    for (const service of services) {
      const group = this.#services.get(service);
      if (!group || group.live.size === 0) continue;
      this.#count(group);
      parts.push(`${service} ${group.live.size} ${group.sum.toString(16)}`);
    }
    return listDigest(parts);
  }

  /** Brings the sum of a service's routes to date: a change of one costs two digests, however many there are. */
  #count(group: OfService): void {
    for (const entry of group.dirty) {
      if (entry.deleted !== undefined || entry.added === undefined) continue;
      group.sum = (group.sum + this.#digestOf(entry)) % MODULUS;
      entry.isCounted = true;
    }
    group.dirty.clear();
  }

  /** Before a change: what it counted for goes. Rather than kept, which would cost as much as the route. */
  #uncount(entry: RouteEntry): void {
    const group = entry.service && this.#services.get(entry.service);
    if (!group || !entry.isCounted) return;
    group.sum = (group.sum - this.#digestOf(entry) + MODULUS) % MODULUS;
    entry.isCounted = false;
  }

  #digestOf(entry: RouteEntry): bigint {
    const r = this.#row(entry);
    const fields = [r.key, r.id, r.priority, r.source_cidr, r.dest_cidr, r.created_hlc, r.version];
    return BigInt(`0x${rowDigest(fields)}`);
  }

  /**
   * Everything in slices, as it stands when the first is asked for: an entry that is about to change meanwhile is written
   * before it does. The first call of another dump ends this one.
   */
  *dumpInTurns(stamps: StampWriter): Generator<unknown[], undefined> {
    const services = [...this.#services.keys()];
    const indexes = new Map(services.map((service, index) => [service, index]));
    this.#dumps += 1;
    const number = this.#dumps;
    let slice: unknown[] = [services];
    const writeEntry = (entry: RouteEntry): void => {
      if (entry.dumped === number) return;
      entry.dumped = number;
      const service = entry.service === undefined ? -1 : (indexes.get(entry.service) ?? -1);
      slice.push(
        entry.key,
        entry.version,
        service,
        entry.proposed,
        stamps.index(entry.added),
        stamps.index(entry.deleted),
      );
      dumpRegisters(registersOf(entry), ROUTE_FIELDS, stamps, slice);
    };
    const mine = { number, writeEntry };
    this.#dumping = mine;
    let left = ENTRIES_A_TURN;
    for (const entry of this.#all.values()) {
      writeEntry(entry);
      left -= 1;
      if (left > 0) continue;
      left = ENTRIES_A_TURN;
      const done = slice;
      slice = [];
      yield done;
      if (this.#dumping !== mine) return;
    }
    this.#dumping = undefined;
    yield slice;
  }

  load(from: readonly unknown[], stamps: StampReader): void {
    const services = from[0] as readonly ServiceId[];
    for (let at = 1; at < from.length; ) {
      const entry = this.#entry(from[at++] as RouteKey);
      entry.version = from[at++] as number;
      entry.service = services[from[at++] as number];
      entry.proposed = from[at++] as number;
      entry.added = stamps.at(from[at++] as number);
      entry.deleted = stamps.at(from[at++] as number);
      const registers = emptyRegisters<RouteFields>();
      at = loadRegisters(registers, ROUTE_FIELDS, stamps, from, at);
      restoreFields(entry, registers);
      if (entry.added) this.#attach(entry);
      const group = entry.service && this.#services.get(entry.service);
      if (group) place(group, entry);
    }
  }

  #entry(key: RouteKey): RouteEntry {
    const known = this.#all.get(key);
    if (known) return known;
    const made = newEntry(key, this.#dumping?.number ?? 0);
    this.#all.set(key, made);
    return made;
  }

  #group(service: ServiceId): OfService {
    const known = this.#services.get(service);
    if (known) return known;
    const made: OfService = {
      live: new OldestFirst<RouteEntry, RouteView>(
        (entry) => entry.added as Stamp,
        (entry) => this.#row(entry),
        { weakly: true },
      ),
      proposals: new Map(),
      highest: 0,
      sum: 0n,
      dirty: new Set(),
      byPrefixes: new Map(),
    };
    this.#services.set(service, made);
    return made;
  }

  #attach(entry: RouteEntry): void {
    const group = this.#group(entry.service as ServiceId);
    const number = numberClass(entry.proposed);
    if (number > group.highest) group.highest = number;
    const rivals = entriesOf(group.proposals.get(number));
    for (const other of rivals) this.#uncount(other);
    group.proposals.set(
      number,
      rivals.length === 0
        ? entry
        : [...rivals, entry].sort((a, b) => compareStamps(a.added as Stamp, b.added as Stamp)),
    );
    if (rivals.length > 0) for (const one of [...rivals, entry]) this.#renumber(one);
    if (entry.deleted === undefined) group.live.add(entry);
    group.dirty.add(entry);
  }

  /** Undoes `#attach`, for the malformed history in which one key was added twice and the earlier one came second. */
  #detach(entry: RouteEntry): void {
    const group = entry.service && this.#services.get(entry.service);
    if (!group) return;
    const number = numberClass(entry.proposed);
    const rivals = entriesOf(group.proposals.get(number));
    for (const other of rivals) this.#uncount(other);
    const left = rivals.filter((other) => other !== entry);
    const [first] = left;
    if (first === undefined) group.proposals.delete(number);
    else group.proposals.set(number, left.length === 1 ? first : left);
    for (const other of left) this.#renumber(other);
    if (number === group.highest) {
      group.highest = 0;
      for (const proposed of group.proposals.keys()) if (proposed > group.highest) group.highest = proposed;
    }
    if (entry.deleted === undefined) group.live.remove(entry);
    unplace(group, entry);
    group.dirty.delete(entry);
  }

  /** Its rank among those that proposed the same number may have changed; it has been uncounted before. */
  #renumber(entry: RouteEntry): void {
    const group = entry.service && this.#services.get(entry.service);
    if (group) {
      group.live.touch(entry);
      group.dirty.add(entry);
    }
    this.#renumbered.push(entry.key);
  }

  /** Routes whose number events about others may have changed, since the last call. */
  takeRenumbered(): readonly RouteKey[] {
    const renumbered = this.#renumbered;
    if (renumbered.length > 0) this.#renumbered = [];
    return renumbered;
  }

  /** Of an entry that was added. */
  #numberOf(entry: RouteEntry): number {
    const number = numberClass(entry.proposed);
    const held = entry.service && this.#services.get(entry.service)?.proposals.get(number);
    return number + (Array.isArray(held) ? held.indexOf(entry) : 0) * RANK_STEP;
  }

  #row(entry: RouteEntry): RouteView {
    const added = entry.added as Stamp;
    return {
      key: entry.key,
      id: this.#numberOf(entry),
      service_id: entry.service as ServiceId,
      priority: entry.priority ?? 0,
      source_cidr: entry.source_cidr ?? null,
      dest_cidr: entry.dest_cidr ?? null,
      created_at: timeOf(added.hlc),
      created_hlc: added.hlc as Hlc,
      version: entry.version,
    };
  }
}

const entriesOf = (there: RouteEntry | RouteEntry[] | undefined): readonly RouteEntry[] =>
  there === undefined ? [] : Array.isArray(there) ? there : [there];

/** FNV-1a over both texts, in 31 bits: what V8 keeps without a box. */
function hashPrefixes(source: string | null, dest: string | null): number {
  let hash = 0x811c9dc5;
  for (const text of [source ?? '', dest ?? '']) {
    for (let at = 0; at < text.length; at += 1) hash = Math.imul(hash ^ text.charCodeAt(at), 0x01000193);
    hash = Math.imul(hash ^ 0x20, 0x01000193);
  }
  return hash >>> 1;
}

/** Puts an entry where its prefixes, as they are now, are looked for. */
function place(group: OfService, entry: RouteEntry): void {
  const { source_cidr, dest_cidr } = entry;
  const isShown = entry.added !== undefined && entry.deleted === undefined;
  const bucket = isShown ? hashPrefixes(source_cidr ?? null, dest_cidr ?? null) : -1;
  if (bucket === entry.bucket) return;
  unplace(group, entry);
  if (bucket < 0) return;
  const there = group.byPrefixes.get(bucket);
  group.byPrefixes.set(bucket, there === undefined ? entry : [...entriesOf(there), entry]);
  entry.bucket = bucket;
}

function unplace(group: OfService, entry: RouteEntry): void {
  if (entry.bucket < 0) return;
  const left = entriesOf(group.byPrefixes.get(entry.bucket)).filter((one) => one !== entry);
  const [first] = left;
  if (first === undefined) group.byPrefixes.delete(entry.bucket);
  else group.byPrefixes.set(entry.bucket, left.length === 1 ? first : left);
  entry.bucket = -1;
}

/** 1..2^32: proposals in one class compete for one number, so ranked numbers never meet a proposed one. */
const numberClass = (number: number): number => ((number - 1) % RANK_STEP) + 1;
