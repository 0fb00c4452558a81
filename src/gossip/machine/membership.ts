import type { PeerId } from '../../../events/brand.ts';
import type { AnyNewEvent } from '../../../events/envelope.ts';
import type { PeerView } from '../../../projections/views.ts';
import type { HandshakeFailure } from '../failures.ts';
import type { Request } from '../messages.ts';
import {
  GREETINGS,
  HANDSHAKE_PAUSES,
  HANDSHAKE_PENDING,
  HANDSHAKE_TRIES,
  PUSH_ALL_LIMIT,
  RENEW_AFTER,
  RENEW_GRACE,
  retryUnknown,
  retryUnreachable,
  SKEW_LIMIT,
  yieldToSmaller,
} from '../parameters.ts';
import { newSession, type Session, type Sessions } from '../sessions.ts';
import type { CallResult } from './channel.ts';
import type { MachineDeps } from './core.ts';
import { createDetection, type Detection } from './detection.ts';
import type { Exchange } from './exchange.ts';
import { type Agreement, initiate } from './handshake.ts';
import { createLink, endpointsOf, isPartner, type Link, partners } from './links.ts';

export interface MembershipDeps {
  readonly machine: MachineDeps;
  readonly sessions: Sessions;
  readonly links: Map<PeerId, Link>;
  readonly exchange: Pick<Exchange, 'compare'>;
  readonly call: (link: Link, request: Request, done: (result: CallResult) => void) => void;
  /** Appends local events of this host. */
  readonly record: (events: readonly AnyNewEvent[]) => void;
  /** Peers whose join is under way: linked, but perhaps no members yet. */
  readonly joining: ReadonlySet<PeerId>;
}

/**
 * Who is there: sessions kept alive and renewed, silence noticed (detection.ts), and the state of each peer as this host sees
 * it. Only transitions become events.
 */
export interface Membership extends Pick<Detection, 'vouched' | 'suspectedBy' | 'late' | 'patience'> {
  linkOf(peer: PeerId): Link;
  /** Ends every session with a peer and forgets its link. */
  drop(peer: PeerId): void;
  /** Looks at the views again: those gone lose their sessions at once. True when somebody may be new, whom `tick` greets. */
  review(): boolean;
  tick(): void;
  /** An authentic word of the peer came in. */
  heard(link: Link, skew: number): void;
  /** The outcome of any request to the peer. */
  observe(link: Link, result: CallResult): void;
  /** A finished handshake becomes a session; a responder's waits for the initiator to use it. */
  establish(agreement: Agreement): Session;
  /** A session's first inbound message. */
  confirmed(link: Link, session: Session): void;
  /** Handshake when one is needed, then a comparison; `done` when the attempt is over. */
  contact(link: Link, done: () => void): void;
  /** Sessions stand and both logs are known to agree: the next probe comes some time within a round. */
  resume(link: Link): void;
  /** Lets an unreachable peer be tried again now. */
  revive(link: Link): void;
  /** The peer said that it stops. */
  stopped(link: Link): void;
  reportSkew(peer: PeerId, ms: number): void;
}

/** How long a contact waits for one under way to end, ms. */
const BUSY_PAUSE = 50;

export function createMembership(
  deps: MembershipDeps,
  options: { readonly heartbeat: number; readonly handshakeTimeout: number },
): Membership {
  const { machine, sessions, links, record } = deps;
  const { clock, identity, random, report, views } = machine;
  const { heartbeat } = options;
  /** The peers as they were at the last review: the same rows mean that nothing about them changed. */
  let reviewed: readonly PeerView[] | undefined;
  let joiningThen = 0;

  const jitter = (ms: number): number => ms * (0.9 + 0.2 * random.fraction());
  const viewOf = (link: Link) => views.peers.get(link.peer);
  const live = (link: Link): Session | undefined => {
    const session = sessions.forSending(link.peer);
    return session !== undefined && session.id !== link.stale ? session : undefined;
  };

  const setUnreachable = (link: Link, reason: string, failure?: HandshakeFailure): void => {
    // A final refusal is not authenticated either, so it does not silence a peer for ever.
    const pause = retryUnreachable(heartbeat) * (failure?.retry === false ? 10 : 1);
    link.nextTryAt = clock.monotonic() + jitter(pause);
    link.suspectSince = undefined;
    link.reason = reason;
    if (link.state === 'unreachable') return;
    link.state = 'unreachable';
    const address = viewOf(link)?.address ?? null;
    record([
      ...(failure === undefined
        ? []
        : [
            {
              type: 'handshake.failed',
              entity: link.peer,
              data: { peer_id: link.peer, address, reason: failure.text },
            } satisfies AnyNewEvent,
          ]),
      { type: 'peer.unreachable', entity: link.peer, data: { peer_id: link.peer, reason } },
    ]);
    report('warn', 'peer is unreachable', { peer: link.peer, reason });
  };

  const heard: Membership['heard'] = (link, skew) => {
    link.lastSeenAt = clock.now();
    link.heardAt = clock.monotonic();
    link.suspectSince = undefined;
    link.tries = 0;
    if (link.state !== 'active') {
      const before = link.state;
      link.state = 'active';
      link.reason = null;
      if (before === 'unreachable') {
        link.nextTryAt = 0;
        record([{ type: 'peer.reachable', entity: link.peer, data: { peer_id: link.peer } }]);
        report('info', 'peer is reachable again', { peer: link.peer });
      }
    }
    noteSkew(link, skew);
  };

  const noteSkew = (link: Link, skew: number): void => {
    link.skew = Math.round(skew);
    const excessive = Math.abs(skew) > SKEW_LIMIT;
    if (excessive && !link.skewReported) reportSkew(link.peer, skew);
    link.skewReported = excessive;
  };

  const reportSkew: Membership['reportSkew'] = (peer, ms) => {
    record([{ type: 'clock.skew_detected', entity: peer, data: { peer_id: peer, skew_ms: Math.round(ms) } }]);
    report('warn', 'clocks differ by more than 60 s; synchronise them (chrony, systemd-timesyncd)', {
      peer,
      skew_ms: Math.round(ms),
    });
  };

  const detection = createDetection(
    {
      machine,
      links,
      connected: (link) => live(link) !== undefined,
      call: deps.call,
      giveUp: setUnreachable,
    },
    { heartbeat },
  );

  const observe: Membership['observe'] = (link, result) => {
    if (result.ok) {
      detection.answered();
      return heard(link, result.skew);
    }
    if (result.fault !== 'no_session') return;
    if (result.session !== undefined) link.stale = result.session.id;
    link.nextTryAt = Math.min(link.nextTryAt, clock.monotonic());
  };

  const ping = (link: Link, done: () => void): void => {
    link.pinging = true;
    deps.exchange.compare(link, (outcome, call) => {
      link.pinging = false;
      const first = !link.attempted;
      link.attempted = true;
      link.compared ||= outcome !== 'failed';
      const pause = detection.pause(link);
      // All links of a large cluster are made at once at a start; from then on their pings are spread over the whole pause.
      const wait =
        first && links.size > PUSH_ALL_LIMIT ? heartbeat + random.fraction() * (pause - heartbeat) : pause;
      link.nextPingAt = clock.monotonic() + jitter(wait);
      if (outcome === 'failed' && !call.ok && call.fault !== 'no_session') detection.silent(link, call.fault);
      done();
    });
  };

  const dropStale = (link: Link): void => {
    const stale = link.stale === undefined ? undefined : sessions.find(link.stale);
    link.stale = undefined;
    if (stale !== undefined) sessions.end(stale, 'renewed');
  };

  const establish: Membership['establish'] = ({ keys, side, party, offset, endpoint }) => {
    const initiator = side === 'initiator';
    const now = clock.monotonic();
    const session = newSession({
      peerId: party.peer_id,
      side,
      keys,
      offset,
      establishedAt: now,
      confirmed: initiator,
      endsAt: initiator ? undefined : now + HANDSHAKE_PENDING,
    });
    const link = linkOf(party.peer_id);
    const first = live(link) === undefined && link.state !== 'active';
    sessions.add(session);
    if (initiator) dropStale(link);
    link.tries = 0;
    link.lastEndpoint = endpoint ?? link.lastEndpoint;
    link.nextPingAt = now + jitter(heartbeat);
    // The initiator is about to use the session; a second handshake from this side would be one too many.
    if (!initiator) link.nextTryAt = now + options.handshakeTimeout;
    if (first) {
      record([
        {
          type: 'handshake.succeeded',
          entity: party.peer_id,
          data: { peer_id: party.peer_id, address: viewOf(link)?.address ?? party.address, initiator },
        },
      ]);
    }
    heard(link, offset);
    return session;
  };

  const shake = (link: Link, done: () => void): void => {
    const endpoints = endpointsOf(viewOf(link), link.lastEndpoint);
    link.shaking = true;
    initiate(
      { endpoints, intent: 'member', expected: link.peer, timeoutMs: options.handshakeTimeout },
      machine,
      (result) => {
        link.shaking = false;
        link.attempted ||= !result.ok;
        if (!isPartner(viewOf(link)) && !deps.joining.has(link.peer)) return done();
        if (result.ok) {
          establish(result.agreement);
          return ping(link, done);
        }
        failed(link, result.failure);
        done();
      },
    );
  };

  const failed = (link: Link, failure: HandshakeFailure): void => {
    const now = clock.monotonic();
    report('debug', failure.text, { peer: link.peer, try: link.tries + 1 });
    link.tries += 1;
    if (failure.unknown) {
      // It will hear of us by gossip: soon at first, then as an unreachable one.
      const pause = Math.min(
        retryUnknown(heartbeat) * 2 ** Math.min(link.tries - 1, 8),
        retryUnreachable(heartbeat),
      );
      link.reason = failure.text;
      link.nextTryAt = now + jitter(pause);
    } else if (live(link) !== undefined) {
      // A renewal that failed; the session in use still works, and the pings judge the peer.
      link.nextTryAt = now + jitter(Math.min(retryUnreachable(heartbeat), RENEW_GRACE));
    } else if (failure.retry && link.tries < HANDSHAKE_TRIES) {
      link.nextTryAt = now + jitter(HANDSHAKE_PAUSES[link.tries - 1] ?? 0);
    } else {
      setUnreachable(link, failure.text, failure);
    }
  };

  const renewalDue = (session: Session): boolean => {
    const age = clock.monotonic() - session.establishedAt;
    return age >= RENEW_AFTER + (identity.peerId < session.peerId ? 0 : RENEW_GRACE);
  };

  const linkOf = (peer: PeerId): Link => {
    let link = links.get(peer);
    if (link === undefined) {
      link = createLink(peer);
      links.set(peer, link);
    }
    return link;
  };

  const revive = (link: Link): void => {
    link.tries = 0;
    link.nextTryAt = 0;
    link.nextPingAt = 0;
  };

  const contact: Membership['contact'] = (link, done) => {
    if (links.get(link.peer) !== link) done();
    else if (link.pinging || link.shaking) clock.after(BUSY_PAUSE, () => contact(link, done));
    else if (live(link) === undefined) shake(link, done);
    else ping(link, done);
  };

  const drop = (peer: PeerId): void => {
    reviewed = undefined;
    links.delete(peer);
    sessions.endAll(peer, 'removed');
  };

  return {
    linkOf,
    drop,
    heard,
    observe,
    establish,
    revive,
    reportSkew,
    confirmed(link, session) {
      if (session.confirmed) return;
      sessions.confirm(session);
      dropStale(link);
    },
    suspectedBy: detection.suspectedBy,
    late: detection.late,
    patience: detection.patience,
    vouched: detection.vouched,
    resume(link) {
      link.state = 'active';
      link.attempted = true;
      link.nextPingAt = clock.monotonic() + random.fraction() * detection.pause(link);
    },
    stopped(link) {
      setUnreachable(link, 'the peer announced that it stops');
      // Its sessions go with its process. Without one, connections to it wait for the next instead of being sent where nobody
      // takes them any more. Not before the answer to this has been sealed.
      clock.after(0, () => sessions.endAll(link.peer, 'renewed'));
    },
    contact,
    review() {
      const rows = views.peers.list();
      if (rows === reviewed && deps.joining.size === joiningThen) return false;
      const starting = reviewed === undefined;
      reviewed = rows;
      joiningThen = deps.joining.size;
      const wanted = new Set<PeerId>();
      for (const view of partners(machine)) {
        wanted.add(view.id);
        const isNew = !links.has(view.id);
        const link = linkOf(view.id);
        const key = [view.address, ...view.endpoints].join(' ');
        if (link.endpointsKey !== '' && link.endpointsKey !== key && link.state === 'unreachable')
          revive(link);
        link.endpointsKey = key;
        // Both sides learn of each other at about the same time; the smaller id goes first. Not at a start: the others believe in
        // sessions that are gone with the process, and would not.
        if (isNew && !starting && identity.peerId > view.id)
          link.nextTryAt = clock.monotonic() + jitter(yieldToSmaller(heartbeat));
      }
      for (const peer of [...links.keys()]) {
        if (wanted.has(peer) || deps.joining.has(peer)) continue;
        drop(peer);
      }
      return true;
    },
    tick() {
      const now = clock.monotonic();
      sessions.sweep(now);
      let greetings = 0;
      for (const link of links.values()) {
        const first = !link.attempted;
        if (link.shaking || (first && link.pinging)) {
          greetings += 1;
          continue;
        }
        const session = live(link);
        const due = session === undefined || renewalDue(session);
        // A host that starts into a large cluster spreads its handshakes and first comparisons: while it lacks what was written
        // meanwhile, each of those brings all that the other side holds.
        const room = greetings < GREETINGS;
        if (due && now >= link.nextTryAt && room) {
          greetings += 1;
          shake(link, () => {});
        } else if (session !== undefined && !link.pinging && now >= link.nextPingAt && (room || !first)) {
          if (first) greetings += 1;
          ping(link, () => {});
        }
      }
    },
  };
}
