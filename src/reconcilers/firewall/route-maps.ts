import type { ServiceId } from '../../../events/brand.ts';
import type {
  ClassRoute,
  DesiredFirewall,
  RouteChanges,
  RouteClass,
} from '../../../projections/desired/contract.ts';
import type { NftExpectedElement, NftExpectedSet, NftSet } from '../../kernel/contract.ts';
import { hostWord } from '../../kernel/nft/expressions.ts';
import { className, elementKey } from './select.ts';

/** An element of a map, with the route it stands for. */
export interface RouteElement extends NftExpectedElement {
  readonly route: ClassRoute;
}

export interface RouteMap extends NftExpectedSet {
  readonly elements: Map<string, RouteElement>;
}

/** What one map loses and gains; an element that gets another value is in both. */
export interface MapChange {
  readonly removed: readonly RouteElement[];
  readonly added: readonly RouteElement[];
}

export interface MapChanges {
  /** By name of the map; also those that come and go. */
  readonly maps: ReadonlyMap<string, MapChange>;
  readonly come: ReadonlySet<string>;
  readonly gone: ReadonlySet<string>;
}

/** Elements made before the event loop gets its turn, some 5 ms. */
const ELEMENTS_PER_TURN = 5_000;

/**
 * The kernel's maps as they should be, one for each class of routes, kept between passes: the steps of a change follow from
 * the change, and what is read from the kernel is looked up here.
 */
export class RouteMaps {
  readonly #marksOf: MarksOf;
  #maps = new Map<string, RouteMap>();
  #desired: DesiredFirewall | undefined;
  #marks: ReadonlyMap<ServiceId, string> = new Map();
  #revision = 0;

  /** `marksOf`: the value each service's routes have in the maps; that of the service by default. */
  constructor(marksOf: MarksOf = serviceMarks) {
    this.#marksOf = marksOf;
  }

  get maps(): ReadonlyMap<string, RouteMap> {
    return this.#maps;
  }

  get size(): number {
    let size = 0;
    for (const map of this.#maps.values()) size += map.elements.size;
    return size;
  }

  /** Position in the history of changes, to ask for those since. */
  get revision(): number {
    return this.#revision;
  }

  /** Brings the maps to what is desired, and answers what that changed. `since` are the changes after `revision`. */
  follow(desired: DesiredFirewall, since: RouteChanges | undefined): MapChanges {
    if (desired === this.#desired) return NOTHING;
    const marks = this.#marksOf(desired);
    const followed =
      this.#desired !== undefined && since?.changes !== undefined && this.#sameMarks(marks)
        ? this.#take(since.changes, marks)
        : undefined;
    const changes = followed ?? this.#put(build(desired, marks));
    this.#desired = desired;
    this.#marks = marks;
    this.#revision = since?.revision ?? 0;
    return changes;
  }

  /** The same where everything has to be made anew, without keeping the event loop. */
  async rebuild(desired: DesiredFirewall, revision: number): Promise<void> {
    const marks = this.#marksOf(desired);
    const slices = buildInSlices(desired, marks);
    for (;;) {
      const slice = slices.next();
      if (slice.done) {
        this.#put(slice.value);
        break;
      }
      await new Promise((resolve) => setImmediate(resolve));
    }
    this.#desired = desired;
    this.#marks = marks;
    this.#revision = revision;
  }

  /** Whether `follow` would have to make everything anew. */
  needsRebuild(desired: DesiredFirewall, since: RouteChanges | undefined): boolean {
    if (desired === this.#desired) return false;
    return (
      this.#desired === undefined || since?.changes === undefined || !this.#sameMarks(this.#marksOf(desired))
    );
  }

  /** A service whose mark is another now (two ids that met on one number) has it in every element. */
  #sameMarks(marks: ReadonlyMap<ServiceId, string>): boolean {
    for (const [id, mark] of this.#marks) if ((marks.get(id) ?? mark) !== mark) return false;
    return true;
  }

  #take(changes: NonNullable<RouteChanges['changes']>, marks: ReadonlyMap<ServiceId, string>): MapChanges {
    const before = new Map<string, Map<string, RouteElement | undefined>>();
    const come = new Set<string>();
    for (const change of changes) {
      const name = className(change);
      let map = this.#maps.get(name);
      if (map === undefined) {
        map = emptyMap(change);
        this.#maps.set(name, map);
        come.add(name);
      }
      const key = elementKey(change);
      const known = before.get(name) ?? new Map<string, RouteElement | undefined>();
      before.set(name, known);
      if (!known.has(key)) known.set(key, map.elements.get(key));
      map.verified = undefined;
      if (change.route === null) map.elements.delete(key);
      else map.elements.set(key, elementOf(key, change.route, marks));
    }
    const maps = new Map<string, MapChange>();
    const gone = new Set<string>();
    for (const [name, known] of before) {
      const map = this.#maps.get(name);
      const removed: RouteElement[] = [];
      const added: RouteElement[] = [];
      for (const [key, was] of known) {
        const now = map?.elements.get(key);
        if (isSame(was, now)) continue;
        if (was !== undefined) removed.push(was);
        if (now !== undefined) added.push(now);
      }
      if (map?.elements.size === 0) {
        this.#maps.delete(name);
        // What came and went meanwhile never was.
        if (come.delete(name)) continue;
        gone.add(name);
      }
      maps.set(name, { removed, added });
    }
    return { maps, come, gone };
  }

  #put(next: Map<string, RouteMap>): MapChanges {
    const held = this.#maps;
    this.#maps = next;
    const maps = new Map<string, MapChange>();
    const come = new Set<string>();
    const gone = new Set<string>();
    for (const [name, map] of next) {
      const old = held.get(name)?.elements;
      if (old === undefined) come.add(name);
      const added = [...map.elements.values()].filter((one) => !isSame(old?.get(one.key), one));
      const removed = [...(old?.values() ?? [])].filter((one) => !isSame(map.elements.get(one.key), one));
      if (added.length + removed.length > 0) maps.set(name, { removed, added });
    }
    for (const [name, map] of held) {
      if (next.has(name)) continue;
      gone.add(name);
      maps.set(name, { removed: [...map.elements.values()], added: [] });
    }
    return { maps, come, gone };
  }
}

export const NOTHING: MapChanges = { maps: new Map(), come: new Set(), gone: new Set() };

/** Map values by service, hex. */
type MarksOf = (desired: DesiredFirewall) => ReadonlyMap<ServiceId, string>;

/** A pair that went to another service is another element, also where both have one value. */
const isSame = (a: RouteElement | undefined, b: RouteElement | undefined): boolean =>
  a?.data === b?.data && a?.route.service_id === b?.route.service_id;

const serviceMarks: MarksOf = (desired) =>
  new Map(desired.services.map((service) => [service.service_id, hostWord(service.mark)]));

const elementOf = (key: string, route: ClassRoute, marks: ReadonlyMap<ServiceId, string>): RouteElement => ({
  key,
  data: marks.get(route.service_id) ?? '',
  seen: undefined,
  route,
});

function emptyMap(head: Omit<RouteClass, 'routes'>): RouteMap {
  const address = head.family === 'ipv4' ? 'ipv4_addr' : 'ipv6_addr';
  const both = head.source_length !== null && head.dest_length !== null;
  return {
    name: className(head),
    keyTypes: both ? [address, address] : [address],
    dataType: 'mark',
    elements: new Map(),
  };
}

function* buildInSlices(
  desired: DesiredFirewall,
  marks: ReadonlyMap<ServiceId, string>,
): Generator<undefined, Map<string, RouteMap>> {
  // Listed in the tick that read them: they are those of now.
  const classes = desired.classes.map((one) => ({ map: emptyMap(one), routes: one.routes }));
  let made = 0;
  for (const { map, routes } of classes)
    for (const route of routes) {
      const key = elementKey(route);
      map.elements.set(key, elementOf(key, route, marks));
      made += 1;
      if (made % ELEMENTS_PER_TURN === 0) yield;
    }
  return new Map(classes.map(({ map }) => [map.name, map]));
}

function build(desired: DesiredFirewall, marks: ReadonlyMap<ServiceId, string>): Map<string, RouteMap> {
  const slices = buildInSlices(desired, marks);
  for (;;) {
    const slice = slices.next();
    if (slice.done) return slice.value;
  }
}

/** The set as a transaction writes it. */
export const toSet = (map: RouteMap): NftSet => ({ ...map, elements: [...map.elements.values()] });
