import type { PeerId } from '../../../events/brand.ts';
import type { AnyEvent, AnyNewEvent } from '../../../events/envelope.ts';
import type { ArcticError } from '../../../events/errors.ts';
import { createIds, newCorrelationId } from '../../../events/ids.ts';
import type { PeerObservation, PeerRequest, PeerResponse } from '../contract.ts';
import type { Request } from '../messages.ts';
import {
  beyondPatience,
  forkSearch,
  HANDSHAKE_TIMEOUT,
  PUSH_ALL_LIMIT,
  requestTimeout,
  SKEW_LIMIT,
} from '../parameters.ts';
import { createSessions, type Sessions } from '../sessions.ts';
import { type CallResult, createChannel } from './channel.ts';
import { cannotChange, type JoinContext, type MachineDeps, once, SYSTEM } from './core.ts';
import type { DataPort } from './data-plane.ts';
import { createExchange } from './exchange.ts';
import { createForks } from './forks.ts';
import { createHistory, lagOf } from './history.ts';
import { join } from './join.ts';
import { endpointsOf, type Link } from './links.ts';
import { createMembership } from './membership.ts';
import { createOrphans } from './orphans.ts';
import { clockHoldReason } from './own-clock.ts';
import { createOwnHistory } from './own-history.ts';
import { createReach } from './reach.ts';
import { createReception } from './reception.ts';
import { createRemovals } from './removals.ts';
import { createWitnessing } from './witness.ts';

export interface MachineOptions {
  /** HEARTBEAT_SECONDS in milliseconds. */
  readonly heartbeat: number;
  /** Limit of one handshake request, ms; default HANDSHAKE_TIMEOUT. */
  readonly handshakeTimeout?: number;
  /** Up to this many peers a change is pushed to everybody; default PUSH_ALL_LIMIT. */
  readonly pushAllLimit?: number;
  /** What the data planes need beside the API, for messages about closed ports. */
  readonly dataPorts?: readonly DataPort[];
  /** Starts in the middle of a quiet life instead of at a start: all peers are connected and agree (simulations of many). */
  readonly resumed?: boolean;
}

/** The whole peer-to-peer protocol of one host. Whatever it needs of the world comes in through `MachineDeps`. */
export interface Machine {
  readonly sessions: Sessions;
  start(): void;
  stop(): void;
  join(
    command: { readonly address: string; readonly name: string | undefined; readonly context: JoinContext },
    done: (result: PeerId | ArcticError) => void,
  ): void;
  /** One round with everybody now; `done` when each peer has answered or failed. */
  round(done: () => void): void;
  handle(request: PeerRequest): PeerResponse;
  observed(peer: PeerId): PeerObservation;
  /** Tells every peer that we go. */
  farewell(done: () => void): void;
  /** Why this host must not append `config` events now; undefined when it may: by the own-history rule and by its clock. */
  holdReason(): string | undefined;
}

const NEVER_SEEN: PeerObservation = {
  state: 'pending',
  last_seen_at: null,
  reason: null,
  closed_ports: [],
  lag: 0,
  log_head: null,
  projection_digest: null,
  clock_skew_ms: null,
  changes_held_until: null,
};

/** Creates the machine; nothing happens before `start`. The log and the views must be caught up by then. */
export function createMachine(options: MachineOptions, deps: MachineDeps): Machine {
  const { clock, identity, log, views } = deps;
  const { heartbeat, handshakeTimeout = HANDSHAKE_TIMEOUT, pushAllLimit = PUSH_ALL_LIMIT } = options;
  const ids = createIds(deps);
  const sessions =
    deps.security?.sessions ?? createSessions({ local: identity.peerId, monotonic: () => clock.monotonic() });
  const channel = deps.security?.channel ?? createChannel(deps, sessions);
  const links = new Map<PeerId, Link>();
  const joining = new Set<PeerId>();
  const aheadReported = new Set<PeerId>();
  /** Origins of which a change is dated in the future, and when it will be taken. */
  const held = new Map<PeerId, number>();
  const heldUntil = (origin: PeerId): string | null => {
    const until = held.get(origin) ?? 0;
    return until > deps.clock.now() ? new Date(until).toISOString() : null;
  };
  let running = false;
  let leaving = false;
  let cancelTick = (): void => {};
  let unsubscribe = (): void => {};
  let flushDue = false;
  let dueAt = 0;

  /** A log that cannot be written (a full disk) must not end the process from within a timer: the sessions and the data plane go on. */
  const record = (events: readonly AnyNewEvent[]): void => {
    try {
      log.append(events, { actor: SYSTEM, correlationId: newCorrelationId(ids) });
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      deps.report('warn', 'could not record events', {
        reason,
        types: events.map((event) => event.type).join(' '),
      });
    }
  };

  const forks = createForks({
    machine: deps,
    record,
    holdReason: () => appendReason(),
    patience: heartbeat,
    searchFor: forkSearch(heartbeat),
  });
  const history = createHistory(deps, forks);

  const call = (link: Link, request: Request, done: (result: CallResult) => void): void => {
    const listed = endpointsOf(views.peers.get(link.peer), link.lastEndpoint);
    const endpoints = listed.length > 0 || link.lastEndpoint === undefined ? listed : [link.lastEndpoint];
    channel.call(
      link.peer,
      endpoints,
      request,
      requestTimeout(heartbeat) * membership.patience(),
      (result) => {
        if (!running) return;
        membership.observe(link, result);
        done(result);
      },
    );
  };

  const exchange = createExchange({
    machine: deps,
    history,
    links,
    call,
    pushAllLimit,
    beyondPatience: beyondPatience(heartbeat),
    onAhead(origin, ms) {
      held.set(origin, deps.clock.now() + ms - SKEW_LIMIT);
      if (aheadReported.has(origin)) return;
      aheadReported.add(origin);
      membership.reportSkew(origin, ms);
    },
  });
  const membership = createMembership(
    { machine: deps, sessions, links, exchange, call, record, joining },
    { heartbeat, handshakeTimeout },
  );

  const ownHistory = createOwnHistory({ machine: deps, links, exchange, forks });
  const { holdReason } = ownHistory;
  const clockReason = (): string | undefined => clockHoldReason(links.values(), views);
  const appendReason = (): string | undefined => holdReason() ?? clockReason();

  const removals = createRemovals({
    machine: deps,
    record,
    holdReason: appendReason,
    endOf: forks.endOf,
    patience: heartbeat,
  });
  const orphans = createOrphans({
    machine: deps,
    forks,
    record,
    holdReason: appendReason,
    patience: heartbeat,
  });
  const witnessing = createWitnessing(
    {
      machine: deps,
      links,
      call,
      record,
      holdReason,
      forked: () => forks.endOf(deps.identity.peerId) < Number.POSITIVE_INFINITY,
    },
    { heartbeat },
  );
  const reach = createReach({ machine: deps, links, call }, { heartbeat });
  const reception = createReception({
    machine: deps,
    ids,
    channel,
    exchange,
    membership,
    witnessing,
    reach,
    links,
    joining,
    call,
    holdReason,
    clockReason,
  });

  const onAppended = (events: readonly AnyEvent[]): void => {
    ownHistory.appended(events);
    history.appended(events);
    exchange.note(events);
    removals.changed();
    if (events.some((event) => event.stream === 'config' && event.entity.startsWith('peer_'))) {
      forks.changed();
      orphans.changed();
    }
    if (flushDue || !events.some((event) => event.stream === 'config')) return;
    flushDue = true;
    // After the append's own tick: the folds have seen the events, and a burst travels together.
    clock.after(0, () => {
      flushDue = false;
      if (!running || leaving) return;
      exchange.flush();
      if (membership.review()) membership.tick();
    });
  };

  const tick = (): void => {
    if (leaving) return;
    membership.late(clock.monotonic() - dueAt);
    reception.sweep();
    membership.tick();
    removals.review();
    forks.review();
    orphans.review();
    witnessing.tick();
    reach.tick();
    exchange.flush();
    const pause = Math.min(1_000, Math.max(20, heartbeat / 5));
    dueAt = clock.monotonic() + pause;
    cancelTick = clock.after(pause, tick);
  };

  /** Runs one flow with each link; `done` once all have ended. */
  const forEach = (
    all: readonly Link[],
    run: (link: Link, ended: () => void) => void,
    done: () => void,
  ): void => {
    let left = all.length;
    if (left === 0) done();
    for (const link of all) {
      run(
        link,
        once(() => {
          left -= 1;
          if (left === 0) done();
        }),
      );
    }
  };

  return {
    sessions,
    start() {
      running = true;
      leaving = false;
      dueAt = clock.monotonic();
      ownHistory.start();
      unsubscribe = log.subscribe(onAppended);
      membership.review();
      // Whoever starts has news to fetch: it does not wait for the smaller id to begin.
      for (const link of links.values())
        if (options.resumed === true) {
          membership.resume(link);
          link.known.agree(history.tips());
        } else membership.revive(link);
      tick();
    },
    stop() {
      running = false;
      ownHistory.stop();
      cancelTick();
      unsubscribe();
      for (const peer of [...links.keys()]) membership.drop(peer);
      reach.stop();
      reception.stop();
    },
    join(command, done) {
      // What it has forgotten it may just get from there; with a wrong clock it would admit the peer in the future.
      const wrong = clockReason();
      if (wrong !== undefined) return done(cannotChange(wrong));
      join(
        command,
        {
          machine: deps,
          exchange,
          membership,
          joining,
          record,
          running: () => running,
          holdReason,
          handshakeTimeout,
          reach,
          dataPorts: options.dataPorts ?? [],
          askBack: (link) => call(link, { kind: 'probe', target: identity.peerId }, () => {}),
          // Beyond one connection that nobody answers: the peer may try another address first.
          reverseLimit: Math.max(HANDSHAKE_TIMEOUT + 1_000, 2 * requestTimeout(heartbeat)),
        },
        done,
      );
    },
    round(done) {
      for (const link of links.values()) if (link.state === 'unreachable') membership.revive(link);
      forEach([...links.values()], membership.contact, done);
    },
    handle(request) {
      if (running && !leaving) return reception.handle(request);
      const body = JSON.stringify({ error: 'The agent is starting or stopping.', code: 'UNAVAILABLE' });
      return { status: 503, headers: { 'content-type': 'application/json' }, body: Buffer.from(body) };
    },
    observed(peer) {
      const link = links.get(peer);
      if (link === undefined) return NEVER_SEEN;
      return {
        state: link.state === 'suspect' ? 'active' : link.state,
        last_seen_at: link.lastSeenAt === undefined ? null : new Date(link.lastSeenAt).toISOString(),
        reason: link.reason,
        closed_ports: link.closed,
        lag: lagOf(history.tips(), link.known),
        log_head: link.remote?.head ?? null,
        projection_digest: link.remote?.projection ?? null,
        clock_skew_ms: link.skew ?? null,
        changes_held_until: heldUntil(peer),
      };
    },
    farewell(done) {
      // From here on silence: one more word would make us look alive again.
      leaving = true;
      const present = [...links.values()].filter(
        (link) => link.state === 'active' || link.state === 'suspect',
      );
      forEach(present, (link, ended) => call(link, { kind: 'bye' }, ended), done);
    },
    holdReason: appendReason,
  };
}
