import type { PeerId, RouteKey, ServiceId } from '../events/brand.ts';
import { CATALOGUE, versionOf } from '../events/catalogue.ts';
import type { AnyEvent } from '../events/envelope.ts';
import { Cluster } from './cluster.ts';
import { Credentials } from './credentials.ts';
import { sha256 } from './digest.ts';
import { License } from './license.ts';
import { Peers } from './peers.ts';
import { VIEW_NAMES, type ViewName } from './projection-names.ts';
import { Routes } from './routes.ts';
import { SequenceSet } from './sequences.ts';
import { Services } from './services.ts';
import { type StampDump, StampReader, StampWriter } from './snapshot-codec.ts';
import type { Stamp } from './stamp.ts';
import type { Views } from './views.ts';

export { VIEW_NAMES, type ViewName };

/** What a run of events touched, so that only what depends on it is derived again. */
export interface Touched {
  readonly views: Set<ViewName>;
  /** Services whose own settings were written, and services one of whose routes was. */
  readonly services: Set<ServiceId>;
  readonly routesOf: Set<ServiceId>;
  readonly routes: Set<RouteKey>;
}

/** Raise when the meaning of the fold changes; snapshots of another meaning are then not used. */
const REVISION = 4;
/**
 * Version of the fold as it stands in snapshots: its revision and the versions of the events it understands, because an event
 * of a newer version is passed over until an upgrade, and has to be folded then.
 */
export const FOLD_VERSION: number = Number.parseInt(
  sha256(
    JSON.stringify([REVISION, Object.entries(CATALOGUE).map(([type, row]) => [type, row.version])]),
  ).slice(0, 7),
  16,
);

/** From which of its sequence numbers on nothing of an origin counts, because it signed two histories. */
export type Forks = ReadonlyMap<PeerId, number>;

/** Some 3 ms. */
const STAMPS_A_TURN = 5_000;

interface Dump {
  readonly forks: readonly (readonly [PeerId, number])[];
  readonly stamps: StampDump;
  readonly seen: readonly [PeerId, readonly number[]][];
  readonly peers: readonly unknown[];
  readonly services: readonly unknown[];
  readonly routes: readonly unknown[];
  readonly credentials: readonly unknown[];
  readonly license: unknown;
  readonly cluster: unknown;
}

/**
 * The whole read side as one fold: commutative, associative and idempotent over `config` events, so every peer that holds the
 * same events holds the same views. Fields are last-writer-wins registers by (hlc, origin, event id); tombstones win over
 * whatever is concurrent or later; a duplicate is known by its (origin, seq). Local events and types not known here change
 * nothing.
 *
 * An origin that signed two histories ends where they part (`peer.forked`, the lowest number of any), whichever of them a host
 * holds. What was folded past that end before the fork was known cannot be taken out again: the fold is then `outdated`, and
 * whoever has the events folds them anew with the `forks` known from the first (`settled` in replay.ts).
 */
export class Fold implements Views {
  readonly peers: Peers;
  readonly services: Services;
  readonly routes: Routes;
  readonly credentials: Credentials;
  readonly #license = new License();
  readonly #cluster = new Cluster();
  readonly #seen = new Map<PeerId, SequenceSet>();
  readonly #forks: Map<PeerId, number>;
  /** Of the last event. */
  #origin = '' as PeerId;
  #outdated = false;
  /** Nothing is noted before somebody has asked once: a replay folds a million events for their result alone. */
  #touched: Touched | undefined;

  constructor(forks: Forks = new Map()) {
    this.#forks = new Map(forks);
    this.services = new Services();
    this.routes = new Routes((service) => this.services.get(service) !== undefined);
    this.credentials = new Credentials();
    this.peers = new Peers(() => ({
      cluster: this.#cluster.id,
      maxNodes: this.#license.view()?.max_nodes ?? Number.POSITIVE_INFINITY,
      forkOf: (peer) => this.#forks.get(peer),
    }));
  }

  cluster = (): ReturnType<Views['cluster']> => this.#cluster.view();
  license = (): ReturnType<Views['license']> => this.#license.view();

  /** Every fork that is known, with the number its origin's history ends before. */
  get forks(): Forks {
    return this.#forks;
  }

  /** Holds events that a fork learned of later excludes. */
  get outdated(): boolean {
    return this.#outdated;
  }

  /** Folds one event; false when it changed nothing (local, folded before, or past the end of its origin's history). */
  apply(event: AnyEvent): boolean {
    if (event.stream !== 'config') return false;
    // Counts whoever says it, even an origin that is cut itself: so two that accuse each other are both out, everywhere.
    if (event.type === 'peer.forked' && event.version <= CATALOGUE[event.type].version)
      this.#fork(event.data.peer_id as PeerId, event.data.seq);
    // Each event brings a copy of its own; of what is kept, all have the same.
    if (event.origin !== this.#origin) this.#origin = event.origin;
    const origin = this.#origin;
    if (event.seq >= (this.#forks.get(origin) ?? Number.POSITIVE_INFINITY)) return false;
    let seen = this.#seen.get(origin);
    if (seen === undefined) {
      seen = new SequenceSet();
      this.#seen.set(origin, seen);
    }
    if (!seen.add(event.seq)) return false;
    const stamp: Stamp = { hlc: event.hlc, origin, id: event.id };
    this.#dispatch(readable(event), stamp);
    return true;
  }

  #fork(peer: PeerId, seq: number): void {
    if (seq >= (this.#forks.get(peer) ?? Number.POSITIVE_INFINITY)) return;
    this.#forks.set(peer, seq);
    this.#outdated ||= (this.#seen.get(peer)?.highest ?? 0) >= seq;
    this.peers.touch();
    this.#touched?.views.add('peers');
  }

  /**
   * By the kind of entity rather than of event: an event of a type not known here still counts in its entity's version, as it
   * does in the log, so that `If-Match` means the same on both.
   */
  #dispatch(event: AnyEvent, stamp: Stamp): void {
    const touched = this.#touched;
    const { entity } = event;
    if (entity.startsWith('rte_')) {
      const service = this.routes.apply(event, stamp);
      const renumbered = this.routes.takeRenumbered();
      if (touched !== undefined) {
        if (service) touched.routesOf.add(service);
        touched.routes.add(entity as RouteKey);
        for (const other of renumbered) touched.routes.add(other);
        touched.views.add('routes');
      }
    } else if (entity.startsWith('svc_')) {
      this.services.apply(event, stamp);
      touched?.services.add(entity as ServiceId);
      touched?.views.add('services');
      // Routes appear and vanish with their service.
      if (event.type !== 'service.updated') touched?.views.add('routes');
    } else if (entity.startsWith('peer_')) {
      this.peers.apply(event, stamp);
      touched?.views.add('peers');
    } else if (entity.startsWith('cli_')) {
      this.credentials.apply(event, stamp);
      touched?.views.add('credentials');
    }
    if (event.type === 'license.installed') {
      this.#license.apply(event.data.license);
      this.peers.touch();
      touched?.views.add('license');
      touched?.views.add('peers');
    } else if (event.type.startsWith('cluster.')) {
      this.#cluster.apply(event, stamp);
      this.peers.touch();
      touched?.views.add('cluster');
      if (event.type === 'cluster.created') touched?.views.add('peers');
    }
  }

  /** What was touched since the last call; nothing at the first, from which on it is noted. */
  takeTouched(): Touched {
    const touched = this.#touched ?? nothingTouched();
    this.#touched = nothingTouched();
    return touched;
  }

  /** SHA-256 of one view, or of all; equal on every peer that has folded the same events. */
  digest(view?: ViewName): string {
    switch (view) {
      case undefined:
        return sha256(JSON.stringify(VIEW_NAMES.map((name) => [name, this.digest(name)])));
      case 'peers':
        return this.peers.digest();
      case 'services':
        return this.services.digest();
      case 'routes':
        return this.routes.digest(this.services.list().map((service) => service.id));
      case 'credentials':
        return this.credentials.digest();
      case 'license':
        return this.#license.digest();
      case 'cluster':
        return this.#cluster.digest();
    }
  }

  /** Everything, registers and tombstones included, as bytes for a snapshot. */
  encode(): Uint8Array {
    return Buffer.from([...this.encodeInTurns()].join(''));
  }

  /**
   * The same in pieces of JSON text that take a few milliseconds each. They tell how things stood when the first was asked
   * for, whatever is folded between them. One at a time: another call ends the one before.
   */
  *encodeInTurns(): Generator<string, undefined> {
    const stamps = new StampWriter();
    const parts = {
      forks: [...this.#forks],
      seen: [...this.#seen].map(([origin, set]) => [origin, set.ranges] as const),
      peers: this.peers.dump(stamps),
      services: this.services.dump(stamps),
      credentials: this.credentials.dump(stamps),
      license: this.#license.dump(),
      cluster: this.#cluster.dump(stamps),
    };
    const routes = this.routes.dumpInTurns(stamps);
    const first = routes.next();
    yield `${JSON.stringify(parts).slice(0, -1)},"routes":[`;
    let written = '';
    for (let slice = first; slice.done !== true; slice = routes.next()) {
      const text = JSON.stringify(slice.value).slice(1, -1);
      if (text === '') continue;
      yield `${written}${text}`;
      written = ',';
    }
    const { origins, flat } = stamps.dump();
    yield `],"stamps":{"origins":${JSON.stringify(origins)},"flat":[`;
    for (let from = 0; from < flat.length; from += STAMPS_A_TURN * 3) {
      const text = JSON.stringify(flat.slice(from, from + STAMPS_A_TURN * 3)).slice(1, -1);
      yield `${from === 0 ? '' : ','}${text}`;
    }
    yield ']}}';
  }

  /** The inverse of `encode`. Throws when the bytes are not what it wrote. */
  static decode(state: Uint8Array): Fold {
    const dump = JSON.parse(Buffer.from(state.buffer, state.byteOffset, state.byteLength).toString()) as Dump;
    const stamps = new StampReader(dump.stamps);
    const fold = new Fold(new Map(dump.forks));
    for (const [origin, ranges] of dump.seen) fold.#seen.set(origin, new SequenceSet(ranges));
    fold.services.load(dump.services, stamps);
    fold.peers.load(dump.peers, stamps);
    fold.routes.load(dump.routes, stamps);
    fold.credentials.load(dump.credentials, stamps);
    fold.#license.load(dump.license);
    fold.#cluster.load(dump.cluster, stamps);
    return fold;
  }
}

const nothingTouched = (): Touched => ({
  views: new Set(),
  services: new Set(),
  routesOf: new Set(),
  routes: new Set(),
});

/** An event of a version newer than ours is counted, not read: its data may mean something else. */
const readable = (event: AnyEvent): AnyEvent =>
  event.version > (versionOf(event.type) ?? event.version)
    ? ({ ...event, type: 'newer' } as unknown as AnyEvent)
    : event;
