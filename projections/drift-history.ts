import type { EventId, PeerId, Position, ServiceId } from '../events/brand.ts';
import type { EventData } from '../events/catalogue.ts';
import { describeEvent, type NameOf } from '../events/describe.ts';
import type { AnyEvent, ArcticEvent } from '../events/envelope.ts';
import type { LogReader } from '../events/log-contract.ts';
import type { DesiredName } from './desired/contract.ts';
import { DESIRED_NAMES, deriveOne, desiredDigest } from './desired/derive.ts';
import { Fold } from './fold.ts';
import { namesIn } from './names.ts';
import { type EventSource, pagesAfter, settled, turn } from './replay.ts';
import { timeOf } from './stamp.ts';
import type { Views } from './views.ts';

/** The reconcilers, and the part of the desired state each of them follows. */
export const FOLLOWS = {
  network: 'interfaces',
  firewall: 'firewall',
  tproxy: 'tproxy',
  iptun: 'iptun',
} as const satisfies Record<string, DesiredName>;
export type FollowerName = keyof typeof FOLLOWS;

type History = Pick<LogReader, 'pages' | 'positionAt' | 'recordedAt'> & EventSource;
type Passed = 'reconcile.applied' | 'drift.repaired';
type Transition = { [T in Passed | 'reconcile.failed' | 'drift.found']: ArcticEvent<T> }[
  | Passed
  | 'reconcile.failed'
  | 'drift.found'];

const TRANSITIONS = ['reconcile.applied', 'reconcile.failed', 'drift.found', 'drift.repaired'] as const;
const AGENT = ['agent.started', 'agent.stopped'] as const;

export interface Culprit {
  readonly pid: number | null;
  readonly program: string | null;
}

export interface DriftSince {
  readonly time: string;
  /** False: not before this time, when a pass last found everything in place. */
  readonly exact: boolean;
  readonly event_id: EventId | null;
  readonly position: Position | null;
  /** Why it is not repaired. */
  readonly reason: string | null;
  readonly by: Culprit | null;
}

/** Since when a reconciler's part differs, given that it does now. `lastPass`: when a pass last ended. */
export function driftSince(log: History, reconciler: string, lastPass: string | null): DriftSince | null {
  let failed: ArcticEvent<'reconcile.failed'> | undefined;
  for (const event of transitions(log, reconciler, { reverse: true })) {
    if (event.type === 'reconcile.failed') {
      failed = event;
      continue;
    }
    if (event.type === 'drift.found') return { ...placed(event), reason: failed?.data.reason ?? null };
    break;
  }
  if (failed !== undefined) return { ...placed(failed), reason: failed.data.reason };
  if (lastPass === null) return null;
  return { time: lastPass, exact: false, event_id: null, position: null, reason: null, by: null };
}

/** When a difference was first found of all the passes since that have found it again, the newest included. */
export type ItemSince = Omit<DriftSince, 'exact' | 'reason'>;

/**
 * Since when each of these items differs, given that they do now. Without an entry: no pass has written it down yet, or the newest
 * event leaves it out, as one of many differences.
 */
export function itemsSince(
  log: History,
  reconciler: string,
  items: readonly string[],
): ReadonlyMap<string, ItemSince> {
  const found = new Map<string, ItemSince>();
  const open = new Set(items);
  for (const event of transitions(log, reconciler, { reverse: true })) {
    if (open.size === 0 || event.type === 'reconcile.applied' || event.type === 'drift.repaired') break;
    if (event.type !== 'drift.found') continue;
    const { exact: _, ...since } = placed(event);
    const { differences, total } = event.data;
    const listed = new Set(differences.map(({ item }) => item));
    for (const item of [...open]) {
      if (listed.has(item)) found.set(item, since);
      // Of more than are listed it cannot be told: what an older event says then counts.
      else if (differences.length === total) open.delete(item);
    }
  }
  return found;
}

/** A fight is over when so long nothing was undone: what was undone before is another story. */
const FIGHT_GAP_MS = 120_000;
/** Findings looked at; one that goes on for days has more, and nobody needs the number of them. */
const FINDINGS_MOST = 500;

export interface Undoing {
  /** At most the last 500 are counted. */
  readonly times: number;
  /** Who did it last, where the kernel tells. */
  readonly by: Culprit | null;
}

/** How often each of these items was changed back after its repair, until now and with no long peace between. */
export function undoings(
  log: Pick<LogReader, 'pages'>,
  reconciler: string,
  items: readonly string[],
): ReadonlyMap<string, Undoing> {
  const undone = new Map<string, Undoing>();
  const wanted = new Set(items);
  let findings = 0;
  let laterMs = Number.POSITIVE_INFINITY;
  for (const event of transitions(log, reconciler, { reverse: true })) {
    if (event.type !== 'drift.found') continue;
    const ms = Date.parse(timeOf(event.hlc));
    findings += 1;
    if (findings > FINDINGS_MOST || (findings > 1 && laterMs - ms > FIGHT_GAP_MS)) break;
    laterMs = ms;
    for (const { item } of event.data.differences) {
      if (!wanted.has(item)) continue;
      const known = undone.get(item);
      undone.set(item, { times: (known?.times ?? 0) + 1, by: known?.by ?? culpritOf(event) });
    }
  }
  return undone;
}

const placed = (event: Transition): Omit<DriftSince, 'reason'> => ({
  time: timeOf(event.hlc),
  exact: true,
  event_id: event.id,
  position: event.position,
  by: culpritOf(event),
});

const culpritOf = (event: Transition): Culprit | null =>
  event.type === 'drift.found' && (event.data.pid !== null || event.data.program !== null)
    ? { pid: event.data.pid, program: event.data.program }
    : null;

/** An event as much as a person asks for, and in one line. */
export interface EventSummary {
  readonly id: EventId;
  readonly position: Position;
  readonly time: string;
  readonly type: string;
  readonly actor: AnyEvent['actor'];
  readonly text: string;
}

/** The last event about the route or service behind a difference; null where nothing in the log stands behind it. */
export function lastEventBehind(
  log: Pick<LogReader, 'pages'>,
  views: Views,
  difference: { readonly item: string; readonly service_id?: ServiceId },
): EventSummary | null {
  const { service_id: service } = difference;
  if (service === undefined) return null;
  const number = /^route (\d+) of /.exec(difference.item)?.[1];
  const route = number === undefined ? undefined : views.routes.byNumber(service, Number(number));
  for (const entity of route === undefined ? [service] : [route.key, service]) {
    const [event] = log.pages({ entity, limit: 1 }, { reverse: true }).next().value ?? [];
    if (event !== undefined) return summaryOf(event, namesIn(views));
  }
  return null;
}

export const summaryOf = (event: AnyEvent, nameOf: NameOf): EventSummary => ({
  id: event.id,
  position: event.position,
  time: timeOf(event.hlc),
  type: event.type,
  actor: event.actor,
  text: describeEvent(event, nameOf),
});

export interface StateThen {
  readonly reconciler: FollowerName;
  readonly state: 'matched' | 'drifted' | 'pending' | 'failed' | 'stopped' | 'unknown';
  readonly text: string;
  readonly desired_digest: string | null;
  readonly applied_digest: string | null;
  /** The event that says so. */
  readonly event_id: EventId | null;
  /** When that ended, where it has. */
  readonly until: { readonly time: string; readonly event_id: EventId } | null;
  readonly by: Culprit | null;
  readonly differences: EventData['drift.found']['differences'];
}

export interface DriftThen {
  readonly at: string;
  readonly position: Position;
  readonly drift: boolean;
  readonly reconcilers: readonly StateThen[];
}

/**
 * Whether the kernel and the engines matched what was desired at a moment of the past, from what this host wrote down
 * then: each pass left the digest of what it applied, and the log, folded up to the moment, has the digest of what was desired.
 */
export async function driftAt(
  log: History,
  local: PeerId,
  moment: { readonly position: Position } | { readonly ms: number },
): Promise<DriftThen> {
  const position = 'position' in moment ? moment.position : log.positionAt(moment.ms);
  const ms = 'ms' in moment ? moment.ms : (log.recordedAt(position) ?? 0);
  const [agent] = log
    .pages({ types: AGENT, until: position, origin: local, limit: 1 }, { reverse: true })
    .next().value ?? [undefined];
  const names = Object.keys(FOLLOWS) as FollowerName[];
  const last = new Map(names.map((name) => [name, newest(log, name, position)]));
  const desired = await digestsAt(log, local, [
    position,
    ...[...last.values()].flatMap((event) =>
      event?.type === 'reconcile.applied' ? [event.data.position as Position] : [],
    ),
  ]);
  const reconcilers = names.map((name) =>
    stateThen(
      log,
      { name, position, last: last.get(name), agent: agent as AnyEvent | undefined },
      (at) => desired.get(at)?.[FOLLOWS[name]],
    ),
  );
  return {
    at: new Date(ms).toISOString(),
    position,
    drift: reconcilers.some(({ state }) => state !== 'matched'),
    reconcilers,
  };
}

const newest = (log: History, reconciler: string, until: Position): Transition | undefined =>
  transitions(log, reconciler, { until, reverse: true }).next().value as Transition | undefined;

/** Digest of each part of the desired state at several positions, from one pass over the log. */
async function digestsAt(
  log: EventSource,
  local: PeerId,
  positions: readonly Position[],
): Promise<ReadonlyMap<Position, Readonly<Record<DesiredName, string>>>> {
  let fold = new Fold();
  const found = new Map<Position, Record<DesiredName, string>>();
  const due = [...new Set(positions)].sort((a, b) => a - b);
  const reach = (next: number): void => {
    while (due[0] !== undefined && due[0] < next) {
      const at = due.shift() as Position;
      const parts = DESIRED_NAMES.map((name) => [name, desiredDigest(name, deriveOne(name, fold, local))]);
      found.set(at, Object.fromEntries(parts) as Record<DesiredName, string>);
    }
  };
  const last = due.at(-1) ?? (0 as Position);
  for (const page of pagesAfter(log, 0 as Position, { position: last })) {
    for (const event of page) {
      reach(event.position);
      fold.apply(event);
      fold = settled(fold, () => pagesAfter(log, 0 as Position, { position: event.position }));
    }
    await turn();
  }
  reach(Number.POSITIVE_INFINITY);
  return found;
}

interface Then {
  readonly name: FollowerName;
  readonly position: Position;
  readonly last: Transition | undefined;
  readonly agent: AnyEvent | undefined;
}

function stateThen(
  log: History,
  { name: reconciler, position, last, agent }: Then,
  desiredAt: (position: Position) => string | undefined,
): StateThen {
  const desired = desiredAt(position) ?? null;
  const nothing = { by: null, differences: [], until: null };
  const digests = { desired_digest: desired, applied_digest: null };
  if (agent?.type === 'agent.stopped' && (last === undefined || last.position < agent.position)) {
    const text = `the agent had stopped at ${timeOf(agent.hlc)}`;
    return { reconciler, state: 'stopped', text, ...digests, event_id: agent.id, ...nothing };
  }
  if (last === undefined) {
    const text = 'no pass is recorded by then';
    return { reconciler, state: 'unknown', text, ...digests, event_id: null, ...nothing };
  }
  const next = (wanted: (event: Transition) => boolean) => {
    for (const event of transitions(log, reconciler, { after: position })) {
      if (wanted(event)) return event;
    }
    return undefined;
  };
  const ended = (event: Transition | undefined): StateThen['until'] =>
    event === undefined ? null : { time: timeOf(event.hlc), event_id: event.id };
  const passed = (event: Transition): boolean =>
    event.type === 'reconcile.applied' || event.type === 'drift.repaired';
  const told = { reconciler, desired_digest: desired, event_id: last.id, by: culpritOf(last) };
  const at = timeOf(last.hlc);
  switch (last.type) {
    case 'drift.found': {
      const text = `${describeEvent(last)}; found at ${at}`;
      const { differences } = last.data;
      return {
        ...told,
        state: 'drifted',
        text,
        applied_digest: null,
        until: ended(next(passed)),
        differences,
      };
    }
    case 'reconcile.failed': {
      const text = `${describeEvent(last)}; since ${at}`;
      return {
        ...told,
        state: 'failed',
        text,
        applied_digest: null,
        until: ended(next(passed)),
        differences: [],
      };
    }
    default: {
      const { digest } = last.data;
      // A pass puts in place what was desired at its position; its digest also covers what the log alone does not say.
      const applied = last.type === 'reconcile.applied' ? desiredAt(last.data.position as Position) : desired;
      if (applied === desired) {
        const broken = next((event) => !passed(event));
        const by = broken === undefined ? null : culpritOf(broken);
        const text = `matched: applied at ${at}${broken === undefined ? '' : `; ${describeEvent(broken)} at ${timeOf(broken.hlc)}`}`;
        return {
          ...told,
          by,
          state: 'matched',
          text,
          applied_digest: digest,
          until: ended(broken),
          differences: [],
        };
      }
      const later = next((event) => event.type === 'reconcile.applied');
      const text = `what was desired was not applied yet: the last pass was at ${at}${later === undefined ? '' : `, the next at ${timeOf(later.hlc)}`}`;
      return {
        ...told,
        state: 'pending',
        text,
        applied_digest: digest,
        until: ended(later),
        differences: [],
      };
    }
  }
}

/** What a reconciler wrote down, in order or newest first. */
function* transitions(
  log: Pick<LogReader, 'pages'>,
  reconciler: string,
  range: { readonly after?: Position; readonly until?: Position; readonly reverse?: boolean },
): Generator<Transition, undefined, void> {
  const { reverse = false, ...between } = range;
  const filter = { entity: `reconciler:${reconciler}`, types: TRANSITIONS, limit: 20, ...between };
  for (const page of log.pages(filter, { reverse })) for (const event of page) yield event as Transition;
  return undefined;
}
