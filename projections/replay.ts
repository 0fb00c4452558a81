import type { Hlc, PeerId, Position } from '../events/brand.ts';
import type { AnyEvent } from '../events/envelope.ts';
import type { DesiredState } from './desired/contract.ts';
import { deriveOne } from './desired/derive.ts';
import { type EventMark, markOf } from './event-mark.ts';
import { Fold } from './fold.ts';
import { PROJECTION_NAMES, type ProjectionName } from './projection-names.ts';
import { later, type Stamp } from './stamp.ts';
import type {
  ClusterView,
  CredentialView,
  LicenseDocumentView,
  PeerView,
  RouteView,
  ServiceView,
} from './views.ts';

export { PROJECTION_NAMES, type ProjectionName };

/** Everything believed and desired at one moment, as plain JSON; with `projection`, that part alone. */
export type ReplayedState = Partial<
  DesiredState & {
    readonly peers: readonly PeerView[];
    readonly services: readonly ServiceView[];
    readonly routes: readonly RouteView[];
    readonly credentials: readonly Omit<CredentialView, 'secret_hash' | 'previous'>[];
    readonly license: LicenseDocumentView | null;
    readonly cluster: ClusterView;
  }
>;

/** A position of this log, or a reading of the hybrid clock; neither: the head. */
export type Moment = { readonly position: Position } | { readonly hlc: Hlc } | undefined;

export interface Replayed {
  /** The last row of the log up to the moment, whatever its stream: what was asked for, or the head; 0 when there was none. */
  readonly position: Position;
  /** Newest clock reading of a config event by then. */
  readonly hlc: Hlc | null;
  /** The last config event by then, in the order of the log: what the state has not changed since. */
  readonly last_change: EventMark | null;
  /** Config events folded. */
  readonly events: number;
  readonly digest: string;
  readonly state: ReplayedState;
}

/** The part of a log that replay reads; an offline copy serves as well as a running agent's. */
export interface EventSource {
  pages(filter: {
    readonly after: Position;
    readonly until?: Position;
  }): IterableIterator<readonly AnyEvent[]>;
}

/**
 * Events after a position up to a moment, a page at a time: constant memory however long the log. Local events come too,
 * and the fold passes them by: that is cheaper than having the database look into every row.
 */
export function* pagesAfter(
  log: EventSource,
  position: Position,
  moment?: Moment,
): Generator<readonly AnyEvent[], void, void> {
  const until = moment !== undefined && 'position' in moment ? { until: moment.position } : {};
  const hlc = moment !== undefined && 'hlc' in moment ? moment.hlc : undefined;
  for (const page of log.pages({ after: position, ...until }))
    yield hlc === undefined ? page : page.filter((event) => event.hlc <= hlc);
}

/** The fold itself, or when a fork came to light in it the same events folded anew without what the fork excludes. */
export function settled(fold: Fold, pages: () => Iterable<readonly AnyEvent[]>): Fold {
  let current = fold;
  while (current.outdated) {
    const again = new Fold(current.forks);
    for (const page of pages()) for (const event of page) again.apply(event);
    current = again;
  }
  return current;
}

/** Lets other work of the process go first. */
export const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

/**
 * Folds the log from its first event to a moment, on a fold of its own, and shows what `local` believed and desired then.
 * Changes nothing, and yields between pages so that a serving agent goes on serving.
 */
export async function replay(
  log: EventSource,
  local: PeerId,
  until?: Moment,
  projection?: ProjectionName,
): Promise<Replayed> {
  const fold = new Fold();
  let events = 0;
  let position = 0 as Position;
  let newest: Stamp | undefined;
  let last: AnyEvent | undefined;
  for (const page of pagesAfter(log, 0 as Position, until)) {
    for (const event of page) {
      position = event.position;
      if (!fold.apply(event)) continue;
      events += 1;
      last = event;
      newest = later(newest, event);
    }
    await turn();
  }
  const then = settled(fold, () => pagesAfter(log, 0 as Position, until));
  return {
    position,
    hlc: newest?.hlc ?? null,
    last_change: last === undefined ? null : markOf(last),
    events,
    digest: then.digest(),
    state: stateOf(then, local, projection),
  };
}

/** Plain JSON of all projections or one. Secrets' hashes are no configuration anyone has to see. */
export function stateOf(fold: Fold, local: PeerId, projection?: ProjectionName): ReplayedState {
  const parts: { readonly [N in ProjectionName]: () => unknown } = {
    peers: () => fold.peers.list(),
    services: () => fold.services.list(),
    routes: () => fold.services.list().flatMap((service) => fold.routes.ofService(service.id)),
    credentials: () =>
      fold.credentials.list().map(({ secret_hash: _hash, previous: _previous, ...shown }) => shown),
    license: () => fold.license() ?? null,
    cluster: () => fold.cluster(),
    interfaces: () => deriveOne('interfaces', fold, local),
    firewall: () => deriveOne('firewall', fold, local),
    tproxy: () => deriveOne('tproxy', fold, local),
    iptun: () => deriveOne('iptun', fold, local),
  };
  const names = projection === undefined ? PROJECTION_NAMES : [projection];
  return Object.fromEntries(names.map((name) => [name, parts[name]()])) as ReplayedState;
}

/** A fold of everything up to the head as it is when this ends; `finish` runs in the same tick, before anything is appended. */
export async function foldAll<T>(
  log: EventSource,
  finish: (fold: Fold, position: Position, events: number) => T,
): Promise<T> {
  const fold = new Fold();
  let position = 0 as Position;
  let events = 0;
  for (const page of pagesAfter(log, position)) {
    for (const event of page) if (fold.apply(event)) events += 1;
    position = page.at(-1)?.position ?? position;
    await turn();
  }
  // What came while the last page yielded its turn.
  for (const page of pagesAfter(log, position)) {
    for (const event of page) if (fold.apply(event)) events += 1;
    position = page.at(-1)?.position ?? position;
  }
  return finish(
    settled(fold, () => pagesAfter(log, 0 as Position)),
    position,
    events,
  );
}
