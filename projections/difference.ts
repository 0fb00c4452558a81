import type { Hlc, PeerId, Position, ServiceId } from '../events/brand.ts';
import type { AnyEvent } from '../events/envelope.ts';
import { type EventMark, markOf } from './event-mark.ts';
import { Fold } from './fold.ts';
import { type ComparedItem, itemsOf } from './items.ts';
import { PROJECTION_NAMES } from './projection-names.ts';
import {
  type EventSource,
  type Moment,
  type ProjectionName,
  pagesAfter,
  settled,
  stateOf,
  turn,
} from './replay.ts';
import { compareStamps, later, type Stamp } from './stamp.ts';

export interface FieldChange {
  readonly field: string;
  readonly before: unknown;
  readonly after: unknown;
  /** The event that wrote it; null when no event between the two moments did. */
  readonly event: EventMark | null;
}

/** One thing that is not the same at both moments. `fields` is empty unless it is there at both. */
export interface ItemChange {
  readonly projection: ProjectionName;
  readonly kind: 'added' | 'removed' | 'changed';
  /** Id within the projection. */
  readonly item: string;
  /** What people call it. */
  readonly label: string;
  readonly before: Readonly<Record<string, unknown>> | null;
  readonly after: Readonly<Record<string, unknown>> | null;
  readonly fields: readonly FieldChange[];
  /** The last event about it between the two moments. */
  readonly event: EventMark | null;
}

export interface MomentSummary {
  /** The last row of the log up to the moment; 0 when there was none. */
  readonly position: Position;
  /** Newest clock reading of a config event by then. */
  readonly hlc: Hlc | null;
  /** The last config event by then, in the order of the log. */
  readonly last_change: EventMark | null;
  readonly digest: string;
}

export interface StateDifference {
  readonly from: MomentSummary;
  readonly to: MomentSummary;
  readonly changes: readonly ItemChange[];
}

/**
 * What differs between two moments of one log, thing by thing and field by field, each with the event that made it. Either
 * moment may be the later one: the answer reads from the first to the second. One pass, and memory for two states.
 */
export async function compareMoments(
  log: EventSource,
  local: PeerId,
  moments: { readonly from: Moment; readonly to: Moment; readonly projection?: ProjectionName | undefined },
): Promise<StateDifference> {
  const from = new At(moments.from);
  const to = new At(moments.to);
  const between = new Authors();
  for (const page of pagesAfter(log, 0 as Position)) {
    for (const event of page) {
      const before = from.take(event);
      const after = to.take(event);
      if (before !== after && event.stream === 'config') between.note(event);
    }
    await turn();
  }
  for (const at of [from, to]) at.settle(log);
  const { projection } = moments;
  const nameOf = (id: string): string => nameIn(to.fold, id) ?? nameIn(from.fold, id) ?? id;
  const held = itemsOf(stateOf(from.fold, local, projection), nameOf);
  const wanted = itemsOf(stateOf(to.fold, local, projection), nameOf);
  return { from: from.summary(), to: to.summary(), changes: changesOf(held, wanted, between) };
}

const nameIn = (fold: Fold, id: string): string | undefined =>
  fold.services.get(id as ServiceId)?.name ?? fold.peers.get(id as PeerId)?.name;

/** The fold of everything up to one moment. */
class At {
  fold = new Fold();
  readonly #moment: Moment;
  #position = 0 as Position;
  #newest: Stamp | undefined;
  #last: AnyEvent | undefined;

  constructor(moment: Moment) {
    this.#moment = moment;
  }

  take(event: AnyEvent): boolean {
    const moment = this.#moment;
    const fits =
      moment === undefined ||
      ('position' in moment ? event.position <= moment.position : event.hlc <= moment.hlc);
    if (!fits) return false;
    this.#position = event.position;
    if (this.fold.apply(event)) {
      this.#newest = later(this.#newest, event);
      this.#last = event;
    }
    return true;
  }

  settle(log: EventSource): void {
    this.fold = settled(this.fold, () => pagesAfter(log, 0 as Position, this.#moment));
  }

  summary(): MomentSummary {
    return {
      position: this.#position,
      hlc: this.#newest?.hlc ?? null,
      last_change: this.#last === undefined ? null : markOf(this.#last),
      digest: this.fold.digest(),
    };
  }
}

interface Author {
  readonly stamp: Stamp;
  readonly mark: EventMark;
}

/** For each entity the last event between the moments, over all and for each field it wrote. */
class Authors {
  readonly #byEntity = new Map<string, { last: Author; readonly byField: Map<string, Author> }>();

  note(event: AnyEvent): void {
    const stamp: Stamp = { hlc: event.hlc, origin: event.origin, id: event.id };
    const author: Author = { stamp, mark: markOf(event) };
    const data = event.data as Readonly<Record<string, unknown>>;
    this.#note(event.entity, author, data);
    // What is derived from a service's routes is found under the service too.
    const service = data['service_id'];
    if (typeof service === 'string') this.#note(`routes of ${service}`, author, data);
    const [noun] = event.type.split('.');
    this.#note(`any ${noun}`, author, data);
  }

  #note(key: string, author: Author, data: Readonly<Record<string, unknown>>): void {
    let held = this.#byEntity.get(key);
    if (held === undefined) {
      held = { last: author, byField: new Map() };
      this.#byEntity.set(key, held);
    } else held.last = latest(held.last, author);
    for (const field of Object.keys(data)) {
      const known = held.byField.get(field);
      held.byField.set(field, known === undefined ? author : latest(known, author));
    }
  }

  /** The last event about the first of these that has any; of `field` where one wrote it. */
  behind(keys: readonly string[], field?: string): EventMark | null {
    if (field !== undefined) {
      for (const key of keys) {
        const author = this.#byEntity.get(key)?.byField.get(field);
        if (author !== undefined) return author.mark;
      }
    }
    for (const key of keys) {
      const held = this.#byEntity.get(key);
      if (held !== undefined) return held.last.mark;
    }
    return null;
  }
}

const latest = (a: Author, b: Author): Author => (compareStamps(b.stamp, a.stamp) > 0 ? b : a);

function changesOf(
  before: ReadonlyMap<string, ComparedItem>,
  after: ReadonlyMap<string, ComparedItem>,
  authors: Authors,
): readonly ItemChange[] {
  const changes: ItemChange[] = [];
  const add = (
    kind: ItemChange['kind'],
    held: ComparedItem | undefined,
    wanted: ComparedItem | undefined,
  ) => {
    const item = wanted ?? held;
    if (item === undefined) return;
    const fields = kind === 'changed' ? fieldChanges(held, wanted, authors) : [];
    if (kind === 'changed' && fields.length === 0) return;
    changes.push({
      projection: item.projection,
      kind,
      item: item.id,
      label: item.label,
      before: held?.fields ?? null,
      after: wanted?.fields ?? null,
      fields,
      event: authors.behind(item.behind),
    });
  };
  for (const [key, held] of before) {
    const wanted = after.get(key);
    add(wanted === undefined ? 'removed' : 'changed', held, wanted);
  }
  for (const [key, wanted] of after) if (!before.has(key)) add('added', undefined, wanted);
  // All of a projection together, whatever became of it.
  return changes.sort(
    (a, b) => PROJECTION_NAMES.indexOf(a.projection) - PROJECTION_NAMES.indexOf(b.projection),
  );
}

function fieldChanges(
  before: ComparedItem | undefined,
  after: ComparedItem | undefined,
  authors: Authors,
): readonly FieldChange[] {
  const held = before?.fields ?? {};
  const wanted = after?.fields ?? {};
  return [...new Set([...Object.keys(held), ...Object.keys(wanted)])]
    .filter((field) => JSON.stringify(held[field]) !== JSON.stringify(wanted[field]))
    .map((field) => ({
      field,
      before: held[field] ?? null,
      after: wanted[field] ?? null,
      event: authors.behind((after ?? before)?.behind ?? [], field),
    }));
}
