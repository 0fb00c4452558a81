import { createHash } from 'node:crypto';
import type { PeerId } from '../../../events/brand.ts';
import type { AnyEvent } from '../../../events/envelope.ts';
import type { ReceiveOutcome } from '../../../events/log-contract.ts';
import type { Batch, Vector } from '../messages.ts';
import { PULL_BYTES, PULL_EVENTS, PUSH_ALL_LIMIT, RECENT_DIGESTS, RECENT_FOR } from '../parameters.ts';
import type { MachineDeps } from './core.ts';
import type { Forks } from './forks.ts';
import { createRecentEvents, type RecentEvent, recentOf } from './recent-events.ts';
import { type Tip, type Tips, TipTable } from './tips.ts';

/** What came of events that were offered. */
export type Applied =
  | ReceiveOutcome
  /** We have no key for the origin yet: they wait at the sender until its admission has arrived. */
  | { readonly kind: 'unknown' }
  /** The origin's history ends before these events (removed, or forked); or the log could not be written. */
  | { readonly kind: 'closed' };

/** The log as gossip compares and exchanges it: one tip an origin, ranges, and the rules of what is taken in. */
export interface History {
  tips(): TipTable;
  tip(origin: PeerId): Tip | undefined;
  vector(): Vector;
  /** SHA-256 (hex) over the vector. Two hosts with equal digests hold the same events. */
  digest(): string;
  /** Digests of the states before this one, newest first; empty once nothing has changed for RECENT_FOR. */
  recent(): string[];
  /** What was added since this host had that digest; undefined when it does not remember it. */
  addedSince(digest: string): Vector | undefined;
  held(origin: PeerId): number;
  /**
   * Which events to ask of a peer with these tips; `claimed` origins are under way from elsewhere, and those of `granted` are
   * taken in beyond the end a removal gave them.
   */
  wants(
    from: PeerId,
    theirs: Iterable<readonly [PeerId, Tip]>,
    claimed: ReadonlySet<PeerId>,
    granted?: ReadonlySet<PeerId>,
  ): [PeerId, number][];
  /** Whole transactions after the given numbers, within PULL_EVENTS and PULL_BYTES, at least one transaction. */
  batches(wants: readonly (readonly [PeerId, number])[]): Batch[];
  apply(from: PeerId, batch: Batch, granted?: ReadonlySet<PeerId>): Applied;
  /** A batch of this peer has brought the place of a fork closer; there is more to ask. */
  searching(origin: PeerId, peer: PeerId): boolean;
  /** Last sequence number of the origin that stands; infinite for whoever was not removed and did not fork. */
  limitOf(origin: PeerId): number;
  /** Holding this much of an origin is more than its removal lets stand, and no fork excludes it. */
  beyondRemoval(origin: PeerId, seq: number): boolean;
  /** To be called for every event the log appended. */
  appended(events: readonly AnyEvent[]): void;
}

const NONE: ReadonlySet<PeerId> = new Set();

export const tipsOf = (vector: Vector): Map<PeerId, Tip> =>
  new Map(vector.map(([origin, seq, hash]) => [origin as PeerId, { seq, hash }]));

/** Events that `tips` lack of what `ours` hold. */
export function lagOf(ours: Tips, tips: Pick<Tips, 'get'>): number {
  let lag = 0;
  for (const [origin, tip] of ours) lag += Math.max(0, tip.seq - (tips.get(origin)?.seq ?? 0));
  return lag;
}

/** Where two histories of one origin part is looked for by halves, with one peer that holds the other one. */
interface Search {
  readonly peer: PeerId;
  /** Highest number known to be the same there, and the lowest known to differ. */
  common: number;
  differs: number;
  asked: number;
}
/** Enough halvings for any history. */
const MOST_QUESTIONS = 64;

export function createHistory(deps: MachineDeps, forks: Pick<Forks, 'endOf' | 'found'>): History {
  const { log, views } = deps;
  const searches = new Map<PeerId, Search>();
  /** Tips already asked about, so that a peer on the other branch is not asked again at each heartbeat. */
  const examined = new Set<string>();
  /** Origins that changed after a state, newest state last. */
  const past: { readonly digest: string; readonly changed: Set<PeerId> }[] = [];
  let changedAt = Number.NEGATIVE_INFINITY;
  let heads = TipTable.empty;
  /** The heads, but for origins whose history ends before theirs. */
  let standing: TipTable | undefined;
  /** Made when somebody asks: in a burst of changes nobody does, and over a thousand origins it takes its time. */
  let digest: string | undefined;
  /** Origins held, as they came, and sorted. */
  const origins: PeerId[] = [];
  let sorted: readonly PeerId[] = [];

  const recentEvents = createRecentEvents();
  const tipAt = (origin: PeerId, seq: number): Tip | undefined => {
    const recent = recentEvents.get(origin, seq);
    if (recent !== undefined) return { seq, hash: recent.hash };
    const event = log.range(origin, seq, 1)[0];
    return event?.seq === seq ? { seq, hash: event.hash } : undefined;
  };
  const hold = (tips: readonly (readonly [PeerId, Tip])[]): void => {
    for (const [origin] of tips)
      if (heads.get(origin) === undefined && !origins.includes(origin)) origins.push(origin);
    heads = heads.with(tips);
  };
  hold(
    Object.entries(log.versionVector()).flatMap(([origin, seq]) => {
      const tip = seq > 0 ? tipAt(origin as PeerId, seq) : undefined;
      return tip === undefined ? [] : [[origin as PeerId, tip] as const];
    }),
  );

  /** A removed peer's later events are nobody's history. */
  const lastBeforeRemoval = (origin: PeerId): number => {
    const peer = views.peers.get(origin);
    return peer?.membership === 'removed' && peer.last_seq !== undefined
      ? peer.last_seq
      : Number.POSITIVE_INFINITY;
  };
  const limitOf = (origin: PeerId): number => Math.min(lastBeforeRemoval(origin), forks.endOf(origin) - 1);

  const current = (): TipTable => {
    if (standing !== undefined) return standing;
    const cut: [PeerId, Tip | undefined][] = [];
    for (const [origin, tip] of heads) {
      const limit = limitOf(origin);
      if (tip.seq > limit) cut.push([origin, tipAt(origin, limit)]);
    }
    standing = heads.with(cut);
    return standing;
  };

  const currentDigest = (): string => {
    if (digest !== undefined) return digest;
    if (sorted.length !== origins.length) sorted = [...origins].sort();
    const tips = current();
    const hash = createHash('sha256');
    for (const origin of sorted) {
      const tip = tips.get(origin);
      if (tip !== undefined) hash.update(`${origin}:${tip.seq}:${tip.hash}\n`);
    }
    digest = hash.digest('hex');
    return digest;
  };

  /** One origin's, without making the whole table. */
  const tipOf = (origin: PeerId): Tip | undefined => {
    if (standing !== undefined) return standing.get(origin);
    const head = heads.get(origin);
    if (head === undefined) return undefined;
    const limit = limitOf(origin);
    return head.seq <= limit ? head : tipAt(origin, limit);
  };
  const held = (origin: PeerId): number => tipOf(origin)?.seq ?? 0;

  const knows = (origin: PeerId): boolean =>
    origin === deps.identity.peerId || views.peers.get(origin)?.public_key !== undefined;
  const pinnedKey = (origin: PeerId): Uint8Array | undefined => {
    // A host restored from an old backup takes its own events back, under its own key.
    if (origin === deps.identity.peerId) return deps.identity.publicKey;
    const key = views.peers.get(origin)?.public_key;
    return key === undefined ? undefined : new Uint8Array(Buffer.from(key, 'base64'));
  };

  /** What stands of an origin after a number, at most so many; what has just come in is not read again. */
  function* standingAfter(origin: PeerId, after: number, most: number): Generator<RecentEvent> {
    const last = Math.min(limitOf(origin), heads.get(origin)?.seq ?? 0);
    if (after >= last) return;
    const recent: RecentEvent[] = [];
    for (let seq = after + 1; seq <= last && recent.length < most; seq += 1) {
      const event = recentEvents.get(origin, seq);
      if (event === undefined) break;
      recent.push(event);
    }
    if (recent.length === Math.min(most, last - after)) {
      yield* recent;
      return;
    }
    for (const event of log.range(origin, after + 1, most)) if (event.seq <= last) yield recentOf(event);
  }

  /** Whole answers towards the fork: the newest events first, then halves. */
  const nextQuestion = (search: Search): number => {
    const { common, differs, asked } = search;
    search.asked += 1;
    if (differs - common <= PULL_EVENTS) return common;
    return asked === 0 ? differs - PULL_EVENTS : Math.floor((common + differs) / 2);
  };

  return {
    tips: current,
    tip: tipOf,
    vector: () =>
      origins.flatMap((origin) => {
        const tip = tipOf(origin);
        return tip === undefined ? [] : [[origin, tip.seq, tip.hash] as Vector[number]];
      }),
    digest: currentDigest,
    held,
    limitOf,
    beyondRemoval: (origin, seq) => Math.min(seq, forks.endOf(origin) - 1) > lastBeforeRemoval(origin),
    wants(from, theirs, claimed, granted = NONE) {
      const wanted: [PeerId, number][] = [];
      for (const [origin, tip] of theirs) {
        if (claimed.has(origin) || !knows(origin)) continue;
        const search = searches.get(origin);
        if (search?.peer === from && search.asked < MOST_QUESTIONS) {
          wanted.push([origin, nextQuestion(search)]);
          continue;
        }
        const ours = tipOf(origin);
        const have = ours?.seq ?? 0;
        const limit = granted.has(origin) ? forks.endOf(origin) - 1 : limitOf(origin);
        if (Math.min(tip.seq, limit) > have) {
          // Our own lost events come first: until they are back this host must not write.
          if (origin === deps.identity.peerId) wanted.unshift([origin, have]);
          else wanted.push([origin, have]);
        } else if (ours !== undefined && tip.seq <= have) {
          const mine = tip.seq === have ? ours : tipAt(origin, tip.seq);
          const fork = `${origin}:${tip.seq}:${tip.hash}`;
          // Same number, other hash: get their version, which is the evidence.
          if (mine !== undefined && tip.hash !== '' && mine.hash !== tip.hash && !examined.has(fork)) {
            examined.add(fork);
            const begun: Search = { peer: from, common: 0, differs: tip.seq, asked: 0 };
            searches.set(origin, begun);
            wanted.push([origin, nextQuestion(begun)]);
          }
        }
      }
      return wanted;
    },
    batches(wants) {
      const result: Batch[] = [];
      let events = 0;
      let bytes = 0;
      for (const [origin, after] of wants) {
        if (events >= PULL_EVENTS || bytes >= PULL_BYTES) break;
        const taken: Batch['events'] = [];
        for (const { travelling, signed, size } of standingAfter(origin, after, PULL_EVENTS - events)) {
          taken.push(travelling);
          bytes += size;
          // Only a signature ends a batch: what follows it unsigned could not be verified.
          if (bytes >= PULL_BYTES && signed) break;
        }
        if (taken.length === 0) continue;
        events += taken.length;
        result.push({ origin, events: taken });
      }
      return result;
    },
    apply(from, batch, granted = NONE) {
      const origin = batch.origin as PeerId;
      const events = batch.events as unknown as readonly AnyEvent[];
      // In a burst an event comes from its author and from whoever was compared with meanwhile.
      if (
        events.length > 0 &&
        events.every(({ seq, hash }) => recentEvents.get(origin, seq)?.hash === hash) &&
        !searches.has(origin)
      )
        return { kind: 'appended', events: [], duplicates: events.length, ignored: 0 };
      const key = pinnedKey(origin);
      if (key === undefined) return { kind: 'unknown' };
      const last = events.at(-1);
      if (last === undefined) return { kind: 'closed' };
      const search = searches.get(origin);
      const limit = granted.has(origin) ? forks.endOf(origin) - 1 : limitOf(origin);
      if (last.seq > limit && search?.peer !== from) return { kind: 'closed' };
      const outcome =
        last.seq > limit && (events[0]?.seq ?? 0) > limit
          ? ({ kind: 'closed' } as const)
          : log.receive(origin, key, events);
      if (outcome.kind === 'equivocation') {
        standing = undefined;
        digest = undefined;
        const differs = Math.min(search?.differs ?? Number.POSITIVE_INFINITY, outcome.seq);
        if (!forks.found(origin, outcome)) searches.delete(origin);
        else if (search?.peer === from) search.differs = differs;
        else searches.set(origin, { peer: from, common: 0, differs, asked: 0 });
      } else if (search?.peer === from) {
        // The same as here, all of it: the histories part later. Or the peer has no other one, and that was that.
        if (outcome.kind === 'appended' && last.seq < search.differs)
          search.common = Math.max(search.common, last.seq);
        else searches.delete(origin);
      }
      return outcome;
    },
    searching: (origin, peer) => {
      const search = searches.get(origin);
      return search?.peer === peer && search.asked < MOST_QUESTIONS;
    },
    recent: () =>
      deps.clock.monotonic() - changedAt > RECENT_FOR ? [] : past.map(({ digest }) => digest).reverse(),
    addedSince(digest) {
      const from = past.findIndex((one) => one.digest === digest);
      if (from < 0) return undefined;
      const changed = new Set(past.slice(from).flatMap((one) => [...one.changed]));
      return [...changed].flatMap((origin) => {
        const tip = tipOf(origin);
        return tip === undefined ? [] : [[origin, tip.seq, tip.hash] as Vector[number]];
      });
    },
    appended(events) {
      const config = events.filter((event) => event.stream === 'config');
      if (config.length === 0) return;
      // A peer may be where this host only passed through. In a large cluster, where each digest costs, only what was told counts.
      if (digest !== undefined || heads.size <= PUSH_ALL_LIMIT) {
        past.push({ digest: currentDigest(), changed: new Set() });
        if (past.length > RECENT_DIGESTS) past.shift();
      }
      changedAt = deps.clock.monotonic();
      hold(config.map(({ origin, seq, hash }) => [origin, { seq, hash }] as const));
      for (const event of config) {
        recentEvents.add(event);
        past.at(-1)?.changed.add(event.origin);
      }
      // A removal moves the end of another origin's history.
      for (const event of config)
        if (event.type.startsWith('peer.')) past.at(-1)?.changed.add(event.entity as PeerId);
      standing = undefined;
      digest = undefined;
    },
  };
}
