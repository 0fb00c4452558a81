import { EventEmitter } from 'eventemitter3';
import type { PeerId, Position, ServiceId } from '../events/brand.ts';
import type { Clock } from '../events/clock.ts';
import type { AnyEvent } from '../events/envelope.ts';
import type { Log } from '../events/log-contract.ts';
import type { DesiredName, DesiredState, RouteChanges } from './desired/contract.ts';
import { DESIRED_NAMES, deriveOne, desiredDigest } from './desired/derive.ts';
import { FirewallIndex } from './desired/firewall-index.ts';
import { compareMoments, type StateDifference } from './difference.ts';
import { contestedFields, explainConflict, type FieldOutcome } from './explain.ts';
import { Fold, type Touched, VIEW_NAMES, type ViewName } from './fold.ts';
import {
  foldAll,
  type Moment,
  type ProjectionName,
  pagesAfter,
  type Replayed,
  type ReplayedState,
  replay,
  settled,
  stateOf,
} from './replay.ts';
import { loadSnapshot, storeSnapshot, storeSnapshotInTurns } from './snapshot.ts';
import type { Views } from './views.ts';

export interface ProjectionsOptions {
  /** Whose desired state is derived. */
  readonly localPeer: PeerId;
  /** Events between snapshots. Bounds the tail that a start has to fold; 10,000 events fold in about 50 ms. */
  readonly snapshotEvery?: number;
}

export interface ProjectionsDeps {
  readonly log: Pick<Log, 'pages' | 'subscribe' | 'head' | 'snapshots'>;
  readonly clock: Pick<Clock, 'after'>;
  /** Told of a snapshot that could not be used or written; the log can always be folded instead. */
  readonly onSnapshotProblem?: (reason: string) => void;
}

/** Result of folding the log anew and comparing. */
export interface Verification {
  readonly matches: boolean;
  readonly position: Position;
  readonly events: number;
  readonly live_digest: string;
  readonly replayed_digest: string;
  /** Views that differ. */
  readonly differing: readonly ViewName[];
}

/** The read side of one agent, kept current by the log. */
export interface Projections {
  /** Folds snapshot and tail, then follows the log synchronously: a write is visible to the next read. */
  start(): void;
  /** Stops following and leaves a snapshot for the next start. */
  stop(): void;
  readonly views: Views;
  readonly caughtUp: boolean;
  /** Position of the last event folded. */
  readonly position: Position;
  /** One part of this host's desired state; the same object until what it depends on changes. */
  desired<N extends DesiredName>(name: N): DesiredState[N];
  desiredState(): DesiredState;
  /** How the classes of the firewall's part came from an earlier revision (0: any) to what they are. */
  firewallChanges(since: number): RouteChanges;
  /** SHA-256 of the views, or of one: the same on every peer that holds the same config events. */
  digest(view?: ViewName): string;
  /** SHA-256 of one part of this host's desired state. */
  desiredDigest(name: DesiredName): string;
  /** `changed(name)`, in the tick of the append, after every fold is done. */
  readonly bus: EventEmitter<{ changed: [name: ProjectionName] }>;
  /** What became of an event's write, field by field. */
  explainConflict(event: AnyEvent): readonly FieldOutcome[];
  /** Of that, only what lost to another host, a concurrent delete or a fork. */
  contestedFields(event: AnyEvent): readonly FieldOutcome[];
  /** The current state as plain JSON. */
  state(projection?: ProjectionName): ReplayedState;
  replay(options?: { readonly until?: Moment; readonly projection?: ProjectionName }): Promise<Replayed>;
  /** What differs between two moments, with the event that made each difference. */
  compare(moments: {
    readonly from: Moment;
    readonly to: Moment;
    readonly projection?: ProjectionName | undefined;
  }): Promise<StateDifference>;
  /** Folds the log from zero and compares with what is live. */
  verify(): Promise<Verification>;
  /** Folds the log from zero and puts the result in the place of what is live. */
  rebuild(): Promise<Verification>;
}

/** Creates the projections of a log; nothing is read before `start()`. */
export function createProjections(options: ProjectionsOptions, deps: ProjectionsDeps): Projections {
  return new Runner(options, deps);
}

class Runner implements Projections {
  readonly bus = new EventEmitter<{ changed: [name: ProjectionName] }>();
  readonly views: Views;
  readonly #local: PeerId;
  readonly #every: number;
  readonly #deps: ProjectionsDeps;
  #fold = new Fold();
  #firewall: FirewallIndex | undefined;
  #nextRevision = 1;
  #position = 0 as Position;
  #caughtUp = false;
  #unsubscribe: (() => void) | undefined;
  #sinceSnapshot = 0;
  #cancelSnapshot: (() => void) | undefined;
  #storing = false;
  readonly #desired = new Map<DesiredName, DesiredState[DesiredName]>();
  readonly #digests = new Map<ProjectionName, string>();
  /** Services this host is an end of, as of the last event: a change of any other leaves its desired state alone. */
  #ours = new Set<ServiceId>();
  #membership = '';

  constructor(options: ProjectionsOptions, deps: ProjectionsDeps) {
    this.#local = options.localPeer;
    this.#every = options.snapshotEvery ?? 10_000;
    this.#deps = deps;
    const fold = (): Fold => this.#fold;
    // Delegates, so that what holds the views keeps seeing the current fold after a rebuild.
    this.views = {
      cluster: () => fold().cluster(),
      license: () => fold().license(),
      peers: collection(() => fold().peers),
      services: collection(() => fold().services),
      credentials: collection(() => fold().credentials),
      routes: {
        get: (key) => fold().routes.get(key),
        byNumber: (service, number) => fold().routes.byNumber(service, number),
        numberOf: (key) => fold().routes.numberOf(key),
        ofService: (service) => fold().routes.ofService(service),
        eachOf: (service) => fold().routes.eachOf(service),
        countOf: (service) => fold().routes.countOf(service),
        withPrefixes: (service, source, dest) => fold().routes.withPrefixes(service, source, dest),
        nextNumber: (service) => fold().routes.nextNumber(service),
        get size() {
          return fold().routes.size;
        },
      },
    };
  }

  get caughtUp(): boolean {
    return this.#caughtUp;
  }

  get position(): Position {
    return this.#position;
  }

  start(): void {
    if (this.#unsubscribe) return;
    const { log } = this.#deps;
    const snapshot = loadSnapshot(log.snapshots, log.head, (reason) => this.#problem(reason));
    this.#fold = snapshot?.fold ?? new Fold();
    this.#position = snapshot?.position ?? (0 as Position);
    for (const page of pagesAfter(log, this.#position)) {
      for (const event of page) if (this.#fold.apply(event)) this.#sinceSnapshot += 1;
      this.#position = page.at(-1)?.position ?? this.#position;
    }
    this.#position = log.head;
    this.#settle();
    this.#unsubscribe = log.subscribe((events) => this.#follow(events));
    this.#adopt();
    this.#caughtUp = true;
    if (this.#sinceSnapshot >= this.#every) this.#scheduleSnapshot();
  }

  stop(): void {
    if (!this.#unsubscribe) return;
    this.#unsubscribe();
    this.#unsubscribe = undefined;
    this.#cancelSnapshot?.();
    this.#cancelSnapshot = undefined;
    if (this.#sinceSnapshot > 0 || this.#storing) this.#storeSnapshot();
    this.#caughtUp = false;
  }

  desired<N extends DesiredName>(name: N): DesiredState[N] {
    const known = this.#desired.get(name) as DesiredState[N] | undefined;
    if (known !== undefined) return known;
    const made = (
      name === 'firewall' ? this.#firewallIndex().desired() : deriveOne(name, this.#fold, this.#local)
    ) as DesiredState[N];
    this.#desired.set(name, made);
    return made;
  }

  firewallChanges(since: number): RouteChanges {
    return this.#firewallIndex().changesSince(since);
  }

  /** Made at the first question: an offline reader never asks. */
  #firewallIndex(): FirewallIndex {
    this.#firewall ??= new FirewallIndex(this.#fold, this.#local, this.#nextRevision);
    return this.#firewall;
  }

  desiredState(): DesiredState {
    return {
      interfaces: this.desired('interfaces'),
      firewall: this.desired('firewall'),
      tproxy: this.desired('tproxy'),
      iptun: this.desired('iptun'),
    };
  }

  digest(view?: ViewName): string {
    return view === undefined ? this.#fold.digest() : this.#memoised(view, () => this.#fold.digest(view));
  }

  desiredDigest(name: DesiredName): string {
    return this.#memoised(name, () => desiredDigest(name, this.desired(name)));
  }

  explainConflict(event: AnyEvent): readonly FieldOutcome[] {
    return explainConflict(this.#fold, event);
  }

  contestedFields(event: AnyEvent): readonly FieldOutcome[] {
    return contestedFields(this.#fold, event);
  }

  state(projection?: ProjectionName): ReplayedState {
    return stateOf(this.#fold, this.#local, projection);
  }

  replay(options: { readonly until?: Moment; readonly projection?: ProjectionName } = {}): Promise<Replayed> {
    return replay(this.#deps.log, this.#local, options.until, options.projection);
  }

  compare(moments: Parameters<Projections['compare']>[0]): Promise<StateDifference> {
    return compareMoments(this.#deps.log, this.#local, moments);
  }

  verify(): Promise<Verification> {
    return foldAll(this.#deps.log, (fold, position, events) => this.#compare(fold, position, events));
  }

  rebuild(): Promise<Verification> {
    return foldAll(this.#deps.log, (fold, position, events) => {
      const result = this.#compare(fold, position, events);
      this.#fold = fold;
      this.#adopt();
      this.#storeSnapshot();
      if (!result.matches)
        for (const name of [...VIEW_NAMES, ...DESIRED_NAMES]) this.bus.emit('changed', name);
      return result;
    });
  }

  /** Everything derived is made anew from the fold as it is now. */
  #adopt(): void {
    this.#fold.takeTouched();
    this.#forgetAll();
    this.#ours = this.#findOurs();
    this.#membership = this.#fingerprint();
  }

  /** Takes out what a fork excludes: the log is folded from its first event, within this tick. True when it had to be. */
  #settle(): boolean {
    const { log } = this.#deps;
    const before = this.#fold;
    this.#fold = settled(before, () => pagesAfter(log, 0 as Position, { position: this.#position }));
    return this.#fold !== before;
  }

  #compare(fold: Fold, position: Position, events: number): Verification {
    const differing = VIEW_NAMES.filter((name) => fold.digest(name) !== this.#fold.digest(name));
    return {
      matches: differing.length === 0,
      position,
      events,
      live_digest: this.#fold.digest(),
      replayed_digest: fold.digest(),
      differing,
    };
  }

  #follow(events: readonly AnyEvent[]): void {
    for (const event of events) {
      if (this.#fold.apply(event)) this.#sinceSnapshot += 1;
      this.#position = event.position;
    }
    if (this.#settle()) {
      this.#adopt();
      this.#scheduleSnapshot();
      for (const name of [...VIEW_NAMES, ...DESIRED_NAMES]) this.bus.emit('changed', name);
      return;
    }
    if (this.#sinceSnapshot >= this.#every) this.#scheduleSnapshot();
    const touched = this.#fold.takeTouched();
    if (touched.views.size === 0) return;
    const stale = this.#staleDesired(touched);
    for (const name of touched.views) this.#digests.delete(name);
    for (const name of stale) {
      this.#desired.delete(name);
      this.#digests.delete(name);
    }
    for (const name of touched.views) this.bus.emit('changed', name);
    for (const name of stale) this.bus.emit('changed', name);
  }

  /** Which parts of the desired state may be others now; also brings `#ours` and `#membership` up to date. */
  #staleDesired(touched: Touched): ReadonlySet<DesiredName> {
    const stale = new Set<DesiredName>();
    const all = (): void => {
      for (const name of DESIRED_NAMES) stale.add(name);
    };
    let services = false;
    if (touched.views.has('peers')) {
      const membership = this.#fingerprint();
      if (membership !== this.#membership) {
        all();
        services = true;
      }
      this.#membership = membership;
    }
    for (const id of touched.services) {
      const isOurs = this.#isOurs(id);
      if (isOurs || this.#ours.has(id)) {
        all();
        services = true;
      }
      if (isOurs) this.#ours.add(id);
      else this.#ours.delete(id);
    }
    for (const id of touched.routesOf) {
      if (!this.#ours.has(id)) continue;
      stale.add(this.views.services.get(id)?.source_peer_id === this.#local ? 'firewall' : 'tproxy');
    }
    if (services) this.#firewall?.servicesChanged();
    if (this.#firewall && touched.routes.size > 0) {
      const { revision } = this.#firewall;
      this.#firewall.routesChanged(touched.routes);
      // Also a route that went to another service by a malformed history, of which only the new one is told.
      if (this.#firewall.revision !== revision) stale.add('firewall');
    }
    return stale;
  }

  #isOurs(id: ServiceId): boolean {
    const service = this.#fold.services.get(id);
    return service?.source_peer_id === this.#local || service?.target_peer_id === this.#local;
  }

  #findOurs(): Set<ServiceId> {
    return new Set(
      this.#fold.services
        .list()
        .filter((service) => this.#isOurs(service.id))
        .map((service) => service.id),
    );
  }

  #fingerprint(): string {
    return this.#fold.peers
      .list()
      .map((peer) => `${peer.id} ${peer.membership}`)
      .join('\n');
  }

  #memoised(name: ProjectionName, make: () => string): string {
    const known = this.#digests.get(name);
    if (known !== undefined) return known;
    const made = make();
    this.#digests.set(name, made);
    return made;
  }

  #forgetAll(): void {
    if (this.#firewall) this.#nextRevision = this.#firewall.revision + 1;
    this.#firewall = undefined;
    this.#desired.clear();
    this.#digests.clear();
  }

  /** Outside the append's tick: an answer does not wait for it. */
  #scheduleSnapshot(): void {
    this.#cancelSnapshot ??= this.#deps.clock.after(0, () => {
      this.#cancelSnapshot = undefined;
      if (this.#unsubscribe && !this.#storing) void this.#storeInTurns();
    });
  }

  /** While the agent works: 100,000 routes at once would keep the event loop for half a second. */
  async #storeInTurns(): Promise<void> {
    const fold = this.#fold;
    this.#sinceSnapshot = 0;
    this.#storing = true;
    try {
      const isWanted = (): boolean => this.#unsubscribe !== undefined && this.#fold === fold;
      await storeSnapshotInTurns(this.#deps.log.snapshots, fold, this.#position, isWanted);
    } catch (error) {
      this.#refused(error);
    } finally {
      this.#storing = false;
    }
  }

  #storeSnapshot(): void {
    this.#sinceSnapshot = 0;
    try {
      storeSnapshot(this.#deps.log.snapshots, this.#fold, this.#position);
    } catch (error) {
      this.#refused(error);
    }
  }

  #refused(error: unknown): void {
    this.#problem(`could not write a snapshot: ${error instanceof Error ? error.message : String(error)}`);
  }

  #problem(reason: string): void {
    this.#deps.onSnapshotProblem?.(reason);
  }
}

/** A collection that asks for its target each time. */
const collection = <K, V>(
  target: () => { get(id: K): V | undefined; list(): readonly V[]; readonly size: number },
) => ({
  get: (id: K): V | undefined => target().get(id),
  list: (): readonly V[] => target().list(),
  get size(): number {
    return target().size;
  },
});
