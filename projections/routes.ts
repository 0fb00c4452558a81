import type { Hlc, RouteKey, ServiceId } from '../events/brand.ts';
import type { EventData } from '../events/catalogue.ts';
import type { AnyEvent } from '../events/envelope.ts';
import { listDigest, rowDigest } from './digest.ts';
import { OldestFirst } from './oldest-first.ts';
import { emptyRegisters, type Registers, write } from './registers.ts';
import { dumpRegisters, loadRegisters, type StampReader, type StampWriter } from './snapshot-codec.ts';
import { compareStamps, earlier, type Stamp, timeOf } from './stamp.ts';
import type { RouteCollection, RouteView } from './views.ts';

type Fields = Pick<EventData['route.added'], 'priority' | 'source_cidr' | 'dest_cidr'>;
export const ROUTE_FIELDS = [
  'priority',
  'source_cidr',
  'dest_cidr',
] as const satisfies readonly (keyof Fields)[];

const MODULUS = 1n << 256n;

/** Numbers proposed more than once are told apart by their rank, in steps of this. */
const RANK_STEP = 2 ** 32;

interface Entry {
  readonly key: RouteKey;
  registers: Registers<Fields>;
  /** Of the earliest `route.added`; undefined while only an update has arrived. */
  added: Stamp | undefined;
  service: ServiceId | undefined;
  proposed: number;
  deleted: Stamp | undefined;
  version: number;
  row: RouteView | undefined;
  /** What it counts for in its service's sum. */
  counted: bigint;
  /** Where it stands in `byPrefixes`; -1 for nowhere. */
  bucket: number;
}

interface OfService {
  readonly live: OldestFirst<Entry, RouteView>;
  /** Everything that ever proposed a number, earliest first, deleted ones too: so a number, once seen, stays. */
  readonly proposals: Map<number, Entry[]>;
  highest: number;
  /** The digests of the live routes added up modulo 2^256; entries of `dirty` count with what they were. */
  sum: bigint;
  readonly dirty: Set<Entry>;
  /** The live ones by a hash of their prefixes: numbers, because text as key would cost as much as the routes. */
  readonly byPrefixes: Map<number, Entry | Entry[]>;
}

const NONE: readonly RouteView[] = [];

/** Routes, grouped by service. Those of a service that is deleted or not known (yet) are held, and shown to nobody. */
export class Routes implements RouteCollection {
  readonly #isLive: (service: ServiceId) => boolean;
  readonly #all = new Map<RouteKey, Entry>();
  readonly #services = new Map<ServiceId, OfService>();
  #renumbered: RouteKey[] = [];

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
    const entry = this.#services.get(service)?.proposals.get(numberClass(number))?.[rank];
    return entry && this.get(entry.key);
  }

  ofService(service: ServiceId): readonly RouteView[] {
    const routes = this.#services.get(service);
    return routes && this.#isLive(service) ? routes.live.rows : NONE;
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

  history(key: string): { registers: Registers<Fields>; deleted: Stamp | undefined } | undefined {
    return this.#all.get(key as RouteKey);
  }

  /** Folds an event about a route; returns the service it belongs to, when known. */
  apply(event: AnyEvent, stamp: Stamp): ServiceId | undefined {
    const entry = this.#entry(event.entity as RouteKey);
    entry.version += 1;
    forgetRow(entry);
    if (event.type === 'route.added') {
      if (entry.deleted === undefined) write(entry.registers, ROUTE_FIELDS, event.data, stamp);
      if (entry.added === undefined || compareStamps(stamp, entry.added) < 0) {
        this.#detach(entry);
        entry.added = stamp;
        entry.service = event.data.service_id as ServiceId;
        entry.proposed = event.data.number;
        this.#attach(entry);
      }
    } else if (event.type === 'route.updated') {
      if (entry.deleted === undefined) write(entry.registers, ROUTE_FIELDS, event.data, stamp);
    } else if (event.type === 'route.deleted') {
      if (entry.deleted === undefined && entry.added && entry.service)
        this.#services.get(entry.service)?.live.remove(entry);
      entry.deleted = earlier(entry.deleted, stamp);
      entry.registers = emptyRegisters();
    }
    const group = entry.service && this.#services.get(entry.service);
    if (group) {
      group.live.touch(entry);
      group.dirty.add(entry);
      place(group, entry);
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

  /** Brings the sum of a service's routes to date: a change of one costs one digest, however many there are. */
  #count(group: OfService): void {
    for (const entry of group.dirty) {
      const r = entry.deleted === undefined && entry.added ? this.#row(entry) : undefined;
      const now =
        r === undefined || this.#services.get(r.service_id) !== group
          ? 0n
          : BigInt(
              `0x${rowDigest([r.key, r.id, r.priority, r.source_cidr, r.dest_cidr, r.created_hlc, r.version])}`,
            );
      group.sum = (group.sum + now - entry.counted + MODULUS) % MODULUS;
      entry.counted = now;
    }
    group.dirty.clear();
  }

  dump(stamps: StampWriter): unknown[] {
    const services = [...this.#services.keys()];
    const indexes = new Map(services.map((service, index) => [service, index]));
    const out: unknown[] = [services];
    for (const entry of this.#all.values()) {
      const service = entry.service === undefined ? -1 : (indexes.get(entry.service) ?? -1);
      out.push(
        entry.key,
        entry.version,
        service,
        entry.proposed,
        stamps.index(entry.added),
        stamps.index(entry.deleted),
      );
      dumpRegisters(entry.registers, ROUTE_FIELDS, stamps, out);
    }
    return out;
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
      at = loadRegisters(entry.registers, ROUTE_FIELDS, stamps, from, at);
      if (entry.added) this.#attach(entry);
      const group = entry.service && this.#services.get(entry.service);
      if (group) place(group, entry);
    }
  }

  #entry(key: RouteKey): Entry {
    const known = this.#all.get(key);
    if (known) return known;
    const made: Entry = {
      key,
      registers: emptyRegisters(),
      added: undefined,
      service: undefined,
      proposed: 0,
      deleted: undefined,
      version: 0,
      row: undefined,
      counted: 0n,
      bucket: -1,
    };
    this.#all.set(key, made);
    return made;
  }

  #group(service: ServiceId): OfService {
    const known = this.#services.get(service);
    if (known) return known;
    const made: OfService = {
      live: new OldestFirst<Entry, RouteView>(
        (entry) => entry.added as Stamp,
        (entry) => this.#row(entry),
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

  #attach(entry: Entry): void {
    const group = this.#group(entry.service as ServiceId);
    const number = numberClass(entry.proposed);
    if (number > group.highest) group.highest = number;
    const held = group.proposals.get(number);
    if (held === undefined) group.proposals.set(number, [entry]);
    else {
      held.push(entry);
      held.sort((a, b) => compareStamps(a.added as Stamp, b.added as Stamp));
      for (const other of held) this.#renumber(other);
    }
    if (entry.deleted === undefined) group.live.add(entry);
    group.dirty.add(entry);
  }

  /** Undoes `#attach`, for the malformed history in which one key was added twice and the earlier one came second. */
  #detach(entry: Entry): void {
    const group = entry.service && this.#services.get(entry.service);
    if (!group) return;
    const number = numberClass(entry.proposed);
    const left = (group.proposals.get(number) ?? []).filter((other) => other !== entry);
    if (left.length > 0) group.proposals.set(number, left);
    else group.proposals.delete(number);
    for (const other of left) this.#renumber(other);
    if (number === group.highest) {
      group.highest = 0;
      for (const proposed of group.proposals.keys()) if (proposed > group.highest) group.highest = proposed;
    }
    if (entry.deleted === undefined) group.live.remove(entry);
    unplace(group, entry);
    group.sum = (group.sum - entry.counted + MODULUS) % MODULUS;
    entry.counted = 0n;
    group.dirty.delete(entry);
  }

  /** Its rank among those that proposed the same number may have changed. */
  #renumber(entry: Entry): void {
    forgetRow(entry);
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

  #row(entry: Entry): RouteView {
    if (entry.row) return entry.row;
    const added = entry.added as Stamp;
    const service = entry.service as ServiceId;
    const number = numberClass(entry.proposed);
    const rank = this.#services.get(service)?.proposals.get(number)?.indexOf(entry) ?? 0;
    const values = entry.registers.values;
    entry.row = {
      key: entry.key,
      id: number + rank * RANK_STEP,
      service_id: service,
      priority: values.priority ?? 0,
      source_cidr: (values.source_cidr ?? null) as RouteView['source_cidr'],
      dest_cidr: (values.dest_cidr ?? null) as RouteView['dest_cidr'],
      created_at: timeOf(added.hlc),
      created_hlc: added.hlc as Hlc,
      version: entry.version,
    };
    return entry.row;
  }
}

const entriesOf = (there: Entry | Entry[] | undefined): readonly Entry[] =>
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
function place(group: OfService, entry: Entry): void {
  const { source_cidr, dest_cidr } = entry.registers.values;
  const isShown = entry.added !== undefined && entry.deleted === undefined;
  const bucket = isShown ? hashPrefixes(source_cidr ?? null, dest_cidr ?? null) : -1;
  if (bucket === entry.bucket) return;
  unplace(group, entry);
  if (bucket < 0) return;
  const there = group.byPrefixes.get(bucket);
  group.byPrefixes.set(bucket, there === undefined ? entry : [...entriesOf(there), entry]);
  entry.bucket = bucket;
}

function unplace(group: OfService, entry: Entry): void {
  if (entry.bucket < 0) return;
  const left = entriesOf(group.byPrefixes.get(entry.bucket)).filter((one) => one !== entry);
  const [first] = left;
  if (first === undefined) group.byPrefixes.delete(entry.bucket);
  else group.byPrefixes.set(entry.bucket, left.length === 1 ? first : left);
  entry.bucket = -1;
}

function forgetRow(entry: Entry): void {
  entry.row = undefined;
}

/** 1..2^32: proposals in one class compete for one number, so ranked numbers never meet a proposed one. */
const numberClass = (number: number): number => ((number - 1) % RANK_STEP) + 1;
