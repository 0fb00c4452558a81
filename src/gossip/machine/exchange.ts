import type { PeerId } from '../../../events/brand.ts';
import type { AnyEvent } from '../../../events/envelope.ts';
import type { PeerView } from '../../../projections/views.ts';
import type { Batch, Reply, Request } from '../messages.ts';
import {
  CLAIM_FOR,
  FAN_OUT,
  PULL_ORIGINS,
  PUSH_EVENTS,
  RELAY_FAN_OUT,
  RELAY_INTERVAL,
  relayRounds,
} from '../parameters.ts';
import type { CallResult } from './channel.ts';
import { type MachineDeps, once } from './core.ts';
import { type Applied, type History, lagOf, tipsOf } from './history.ts';
import { type Link, partners, sample } from './links.ts';
import type { Tip } from './tips.ts';

export interface ExchangeDeps {
  readonly machine: MachineDeps;
  readonly history: History;
  readonly links: ReadonlyMap<PeerId, Link>;
  readonly call: (link: Link, request: Request, done: (result: CallResult) => void) => void;
  readonly pushAllLimit: number;
  /** How long a member must hold on to events of a removed peer before they are taken in, ms. */
  readonly beyondPatience: number;
  /** An origin's events come from a clock this far ahead, ms. */
  readonly onAhead: (origin: PeerId, ms: number) => void;
}

/**
 * Anti-entropy: changes are pushed as they happen; what a push missed shows in the digest of the next heartbeat and is pulled.
 * Whoever lacks events pulls them, one answer at a time, so a peer that is far behind is never flooded.
 */
export interface Exchange {
  /** Ping, then pull and offer as the digests say; `done(same)` when there is nothing left to fetch, or the peer failed. */
  compare(link: Link, done: (result: 'same' | 'differs' | 'failed', call: CallResult) => void): void;
  /** Events entered the log here: remember whom to tell. Sends nothing yet. */
  note(events: readonly AnyEvent[]): void;
  /** Sends what was noted. */
  flush(): void;
  ping(link: Link, done: (result: CallResult) => void): void;
  /** Answers a request of the peer. */
  answer(link: Link, request: Request): Reply;
  /** The peer says it holds this many of our own events. */
  remembers(link: Link, seq: number): void;
  /** How many of this host's own events another host holds and this one does not. */
  forgotten(): number;
}

export function createExchange(deps: ExchangeDeps): Exchange {
  const { history, links } = deps;
  const { identity, random, report, log } = deps.machine;
  /** Origins being pulled and since when, so that no range is fetched from two peers at once unless the first is slow. */
  const claims = new Map<PeerId, number>();
  const claimed = (): ReadonlySet<PeerId> => {
    const since = deps.machine.clock.monotonic() - CLAIM_FOR;
    return new Set([...claims].flatMap(([origin, at]) => (at > since ? [origin] : [])));
  };
  /** Who the events being applied came from. */
  let receivingFrom: Link | undefined;
  let receivingBy: 'push' | 'pull' = 'push';

  /** Digesting every view takes milliseconds in a large cluster, and every heartbeat asks for it. */
  let projection: { readonly head: number; readonly digest: string | null } | undefined;
  const projectionDigest = (): string | null => {
    if (projection?.head !== log.head || projection.digest === null)
      projection = { head: log.head, digest: deps.machine.projectionDigest() };
    return projection.digest;
  };
  const state = () => ({ digest: history.digest(), head: log.head, projection: projectionDigest() });

  /**
   * A member that goes on holding more of a removed peer than we let stand cannot learn of the removal: its author was removed
   * itself, on the other side of a partition. Its word counts then, or the two would differ for ever.
   */
  const granted = (link: Link): ReadonlySet<PeerId> => {
    const since = deps.machine.clock.monotonic() - deps.beyondPatience;
    return new Set([...link.beyond].flatMap(([origin, seen]) => (seen <= since ? [origin] : [])));
  };
  const noteBeyond = (link: Link, theirs: Iterable<readonly [PeerId, Tip]>): void => {
    const member = deps.machine.views.peers.get(link.peer)?.membership === 'member';
    const now = deps.machine.clock.monotonic();
    const seen = new Map<PeerId, number>();
    if (member)
      for (const [origin, tip] of theirs)
        if (history.beyondRemoval(origin, tip.seq)) seen.set(origin, link.beyond.get(origin) ?? now);
    if (seen.size > 0 || link.beyond.size > 0) link.beyond = seen;
  };

  const raise = (link: Link, origin: PeerId, seq: number, hash: string): void => {
    link.known.raise(origin, { seq, hash });
  };

  const apply = (link: Link, batch: Batch, by: 'push' | 'pull'): Applied => {
    receivingFrom = link;
    receivingBy = by;
    const last = batch.events.at(-1);
    const origin = batch.origin as PeerId;
    if (last !== undefined) raise(link, origin, last.seq, last.hash);
    try {
      const outcome = history.apply(link.peer, batch, by === 'pull' ? granted(link) : undefined);
      if (outcome.kind === 'refused')
        report('warn', 'events of a peer were refused', {
          from: link.peer,
          origin,
          seq: outcome.seq,
          reason: outcome.reason,
        });
      else if (outcome.kind === 'ahead') deps.onAhead(origin, outcome.aheadMs);
      return outcome;
    } catch (error) {
      // A full disk, most likely. The sender keeps its events, and the next digest brings them again.
      const reason = error instanceof Error ? error.message : String(error);
      report('warn', 'events of a peer could not be stored', { from: link.peer, origin, reason });
      return { kind: 'closed' };
    } finally {
      receivingFrom = undefined;
    }
  };

  /** Fetches range after range until nothing is wanted or nothing moves. */
  const pull = (link: Link, done: () => void): void => {
    const wants = link.pulling
      ? []
      : history.wants(link.peer, link.known, claimed(), granted(link)).slice(0, PULL_ORIGINS);
    link.pullAgain ||= link.pulling;
    if (wants.length === 0) {
      done();
      return;
    }
    link.pulling = true;
    const now = deps.machine.clock.monotonic();
    for (const [origin] of wants) claims.set(origin, now);
    deps.call(link, { kind: 'pull', wants }, (result) => {
      link.pulling = false;
      for (const [origin] of wants) if (claims.get(origin) === now) claims.delete(origin);
      if (!result.ok || result.reply.kind !== 'events') return done();
      let progress = false;
      const stuck = new Set(wants.map(([origin]) => origin));
      for (const batch of result.reply.batches) {
        const outcome = apply(link, batch, 'pull');
        if (outcome.kind === 'appended') {
          stuck.delete(batch.origin as PeerId);
          progress ||= outcome.events.length > 0;
        }
        progress ||= history.searching(batch.origin as PeerId, link.peer);
      }
      // A claim to hold more of our own history that is not made good must not keep this host from writing.
      if (stuck.has(identity.peerId)) link.known.forget(identity.peerId);
      const again = progress || link.pullAgain;
      link.pullAgain = false;
      if (!again) return done();
      // Let other work in between two ranges.
      deps.machine.clock.after(0, () => pull(link, done));
    });
  };

  const pushes = (link: Link): [PeerId, number][] => {
    const wants: [PeerId, number][] = [];
    for (const [origin, from] of link.dirty ?? []) {
      const theirs = link.known.get(origin)?.seq ?? 0;
      const after = Math.max(theirs, from - 1);
      if (origin !== link.peer && history.held(origin) > after) wants.push([origin, after]);
    }
    link.dirty = undefined;
    return wants;
  };

  const push = (link: Link): void => {
    if (link.pushing || link.dirty === undefined || link.state === 'unreachable') return;
    const wants = pushes(link);
    if (wants.length === 0) return;
    const lacking = wants.reduce((sum, [origin, after]) => sum + history.held(origin) - after, 0);
    link.pushing = true;
    const finished = (): void => {
      link.pushing = false;
      push(link);
    };
    if (lacking > PUSH_EVENTS) {
      deps.call(link, { kind: 'offer', vector: history.vector() }, () => finished());
      return;
    }
    deps.call(link, { kind: 'push', batches: history.batches(wants) }, (result) => {
      if (result.ok && result.reply.kind === 'ack') {
        for (const [origin, seq] of result.reply.have) {
          const tip = history.tip(origin as PeerId);
          if (tip !== undefined && seq >= tip.seq) raise(link, origin as PeerId, tip.seq, tip.hash);
        }
      }
      // A failed push is not repeated: the next heartbeat's digest shows what is missing.
      finished();
    });
  };

  const markDirty = (link: Link, origin: PeerId, seq: number): void => {
    link.dirty ??= new Map();
    const from = link.dirty.get(origin);
    if (from === undefined || seq < from) link.dirty.set(origin, seq);
  };

  /** Only the number: whoever lacks the events pulls them. */
  const mention = (link: Link, origin: PeerId): void => {
    const tip = history.tip(origin);
    if (tip === undefined) return;
    deps.call(link, { kind: 'offer', vector: [[origin, tip.seq, tip.hash]] }, (result) => {
      if (result.ok) raise(link, origin, tip.seq, tip.hash);
    });
  };

  /** Changes that are still passed on, by origin, and how often yet. */
  const rumours = new Map<PeerId, { readonly rounds: number }>();
  let relayArmed = false;
  const armRelay = (): void => {
    if (relayArmed) return;
    relayArmed = true;
    deps.machine.clock.after(RELAY_INTERVAL, () => {
      relayArmed = false;
      for (const [origin, { rounds }] of [...rumours]) {
        const held = history.held(origin);
        const lacking = [...links.values()].filter(
          (link) =>
            link.peer !== origin && link.state !== 'unreachable' && (link.known.get(origin)?.seq ?? 0) < held,
        );
        for (const link of sample(lacking, RELAY_FAN_OUT, () => random.fraction())) mention(link, origin);
        if (rounds > 1 && lacking.length > 0) rumours.set(origin, { rounds: rounds - 1 });
        else rumours.delete(origin);
      }
      if (rumours.size > 0) armRelay();
    });
  };

  const learn = (link: Link, tips: ReadonlyMap<PeerId, Tip>): void => {
    for (const [origin, tip] of tips) raise(link, origin, tip.seq, tip.hash);
    if (history.wants(link.peer, tips, claimed()).length > 0) pull(link, () => {});
  };

  /**
   * A peer that has never opened a connection to this host (a NAT without forwarding, a firewall) could not pull what it is
   * offered, so it is given all it lacks, one answer at a time.
   */
  const deliver = (link: Link, done: () => void): void => {
    const lacking = [...history.tips()].flatMap(([origin, tip]): [PeerId, number][] => {
      const theirs = link.known.get(origin)?.seq ?? 0;
      return theirs < tip.seq ? [[origin, theirs]] : [];
    });
    const batches = history.batches(lacking);
    if (batches.length === 0) {
      done();
      return;
    }
    deps.call(link, { kind: 'push', batches }, (result) => {
      if (!result.ok || result.reply.kind !== 'ack') return done();
      let progress = false;
      for (const [origin, seq] of result.reply.have) {
        const before = link.known.get(origin as PeerId)?.seq ?? 0;
        const sent = batches
          .find((batch) => batch.origin === origin)
          ?.events.findLast((event) => event.seq <= seq);
        if (sent === undefined || sent.seq <= before) continue;
        raise(link, origin as PeerId, sent.seq, sent.hash);
        progress = true;
      }
      if (progress) deps.machine.clock.after(0, () => deliver(link, done));
      else done();
    });
  };

  const ping: Exchange['ping'] = (link, done) => {
    const recent = history.recent();
    deps.call(link, { kind: 'ping', state: state(), ...(recent.length > 0 ? { recent } : {}) }, done);
  };

  const compare: Exchange['compare'] = (link, finished) => {
    const done = once(finished);
    const sent = history.tips();
    ping(link, (result) => {
      if (!result.ok) return done('failed', result);
      const { reply } = result;
      if (reply.kind !== 'pong') return done('failed', { ok: false, fault: 'invalid' });
      link.remote = reply.state;
      if (reply.state.digest === history.digest()) {
        link.known.agree(history.tips());
        return done('same', result);
      }
      if (reply.added !== undefined) {
        link.known.agree(sent);
        for (const [origin, tip] of tipsOf(reply.added)) raise(link, origin, tip.seq, tip.hash);
        return pull(link, () => done('differs', result));
      }
      if (reply.vector === undefined) {
        // The peer is where we were a moment ago: it lacks exactly what came since.
        const added = history.addedSince(reply.state.digest);
        if (added === undefined || added.length === 0) return done('differs', result);
        return link.inboundAt === undefined
          ? deliver(link, () => done('differs', result))
          : deps.call(link, { kind: 'offer', vector: added }, () => done('differs', result));
      }
      const theirs = tipsOf(reply.vector);
      link.known.reset(history.tips(), theirs);
      noteBeyond(link, theirs);
      pull(link, () => {
        if (lagOf(history.tips(), link.known) === 0) return done('differs', result);
        if (link.inboundAt === undefined) return deliver(link, () => done('differs', result));
        deps.call(link, { kind: 'offer', vector: history.vector() }, () => done('differs', result));
      });
    });
  };

  let seen: { readonly rows: readonly PeerView[]; readonly partners: readonly PeerView[] } | undefined;
  /** The same rows have the same partners: in a large cluster they are not gone through for each event. */
  const partnersNow = (): readonly PeerView[] => {
    const rows = deps.machine.views.peers.list();
    if (seen?.rows !== rows) seen = { rows, partners: partners(deps.machine) };
    return seen.partners;
  };

  return {
    compare,
    ping,
    remembers(link, seq) {
      if (seq > history.held(identity.peerId)) raise(link, identity.peerId, seq, '');
    },
    note(events) {
      const config = events.filter((event) => event.stream === 'config');
      const first = config[0];
      if (first === undefined) return;
      const source = receivingFrom;
      const all = partnersNow();
      const active = all.flatMap((view) => {
        const link = links.get(view.id);
        return link !== undefined && link !== source && link.peer !== first.origin ? [link] : [];
      });
      const large = all.length > deps.pushAllLimit;
      // In a small cluster the origin tells everybody itself; its pushes need no echo.
      if (source !== undefined && source.peer === first.origin && receivingBy === 'push' && !large) return;
      const gone = config.flatMap((event) => {
        const link = event.type === 'peer.removed' ? links.get(event.data.peer_id as PeerId) : undefined;
        return link === undefined ? [] : [link];
      });
      // A removed peer is told so, in the last message it gets.
      const targets = [...(large ? sample(active, FAN_OUT, () => random.fraction()) : active), ...gone];
      for (const link of targets) markDirty(link, first.origin, first.seq);
      if (large) {
        rumours.set(first.origin, { rounds: relayRounds(all.length) });
        armRelay();
      }
    },
    flush() {
      for (const link of links.values()) push(link);
    },
    answer(link, request) {
      switch (request.kind) {
        case 'ping': {
          link.remote = request.state;
          const own = state();
          const same = own.digest === request.state.digest;
          if (same) link.known.agree(history.tips());
          if (same || request.recent?.includes(own.digest)) return { kind: 'pong', state: own };
          const added = history.addedSince(request.state.digest);
          return added === undefined
            ? { kind: 'pong', state: own, vector: history.vector() }
            : { kind: 'pong', state: own, added };
        }
        case 'push': {
          let gap = false;
          for (const batch of request.batches) {
            const outcome = apply(link, batch, 'push');
            gap ||= outcome.kind === 'gap' || outcome.kind === 'unknown';
          }
          if (gap) deps.machine.clock.after(0, () => pull(link, () => {}));
          return {
            kind: 'ack',
            have: request.batches.map((batch) => [batch.origin, history.held(batch.origin as PeerId)]),
          };
        }
        case 'offer': {
          const tips = tipsOf(request.vector);
          deps.machine.clock.after(0, () => learn(link, tips));
          return { kind: 'ok' };
        }
        case 'pull':
          return {
            kind: 'events',
            batches: history.batches(request.wants.map(([origin, after]) => [origin as PeerId, after])),
          };
        default:
          return { kind: 'ok' };
      }
    },
    forgotten() {
      const own = history.held(identity.peerId);
      let most = own;
      for (const link of links.values()) most = Math.max(most, link.known.get(identity.peerId)?.seq ?? 0);
      return most - own;
    },
  };
}
