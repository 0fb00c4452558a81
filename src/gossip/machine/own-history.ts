import type { PeerId } from '../../../events/brand.ts';
import type { AnyEvent } from '../../../events/envelope.ts';
import { SETTLE_LIMIT } from '../parameters.ts';
import type { MachineDeps, Mark } from './core.ts';
import type { Exchange } from './exchange.ts';
import type { Forks } from './forks.ts';
import { type Link, partners } from './links.ts';

export interface OwnHistoryDeps {
  readonly machine: MachineDeps;
  readonly links: ReadonlyMap<PeerId, Link>;
  readonly exchange: Pick<Exchange, 'forgotten'>;
  readonly forks: Pick<Forks, 'endOf'>;
}

/**
 * Whether this host knows everything it has ever signed. A host that writes without that signs a number twice, and from there
 * on nothing of it counts. What it may have forgotten shows in three ways: a peer holds more of its events; the mark beside the
 * database counts more (the database is an older copy); or it has just started and has not asked anybody yet.
 */
export interface OwnHistory {
  start(): void;
  stop(): void;
  /** To be called for every event the log appended. */
  appended(events: readonly AnyEvent[]): void;
  /** Why this host must not append `config` events now; undefined when it may. */
  holdReason(): string | undefined;
}

/** Addresses named to the operator; the others come back with the first. */
const MOST_NAMED = 3;

export function createOwnHistory(deps: OwnHistoryDeps): OwnHistory {
  const { links, exchange, forks } = deps;
  const { clock, identity, log, mark, report, views } = deps.machine;
  let phase: 'new' | 'running' | 'stopped' = 'new';
  let startedAt = 0;
  let knownAtStart: ReadonlySet<PeerId> = new Set(partners(deps.machine).map((peer) => peer.id));
  let own = log.versionVector()[identity.peerId] ?? 0;
  let peers: Mark['peers'] = [];
  const marked = mark?.read();
  /** What the mark counts and the log lacks, until it is back. */
  let missing = marked !== undefined && marked.seq > own ? marked : undefined;

  const save = (): void => {
    if (missing === undefined) mark?.write({ seq: own, peers });
  };

  /** True when they are others now. The array stays the same while they are not, which spares the file. */
  const notePeers = (): boolean => {
    const now = partners(deps.machine).map(({ id, address }) => ({ id, address }));
    const same =
      now.length === peers.length &&
      now.every(({ id, address }, i) => peers[i]?.id === id && peers[i]?.address === address);
    if (!same) peers = now;
    return !same;
  };

  /** Nobody who could have them does: they are gone, and their numbers are free. */
  const giveUp = (why: string): void => {
    if (missing === undefined) return;
    report('warn', 'events of this host are lost: its database is an older copy, and no peer holds them', {
      lost: missing.seq - own,
      reason: why,
    });
    missing = undefined;
    save();
  };

  const missingReason = (): string | undefined => {
    if (missing === undefined) return undefined;
    const { seq } = missing;
    if (own >= seq) {
      report('info', 'the events this host had forgotten are back', { seq });
      missing = undefined;
      save();
      return undefined;
    }
    if (missing.peers.length === 0) {
      giveUp('it had no peers');
      return undefined;
    }
    const what =
      `this database is older than what this host has signed: ${seq - own} of its own events are missing (restored from a ` +
      'backup?) and have to come back from its peers first';
    if (views.cluster().cluster_id === undefined)
      return `${what}; this copy is from before its bootstrap: stop the agent, delete the database and bootstrap again, which gives this host a new identity`;
    const strangers = missing.peers.filter(({ id }) => views.peers.get(id) === undefined);
    if (strangers.length > 0) {
      const addresses = strangers.slice(0, MOST_NAMED).map(({ address }) => address);
      return `${what}; it does not know them any more, so add one again: arctic peers add ${addresses.join(' (or ')}${')'.repeat(addresses.length - 1)}`;
    }
    const silent = missing.peers.filter(({ id }) => links.get(id)?.compared === false);
    if (silent.length > 0) {
      const names = silent.slice(0, MOST_NAMED).map(({ id }) => views.peers.get(id)?.name ?? id);
      return `${what}; still to answer: ${names.join(', ')}`;
    }
    if (exchange.forgotten() > 0) return what;
    giveUp('every peer was asked');
    return undefined;
  };

  return {
    start() {
      phase = 'running';
      startedAt = clock.monotonic();
      knownAtStart = new Set(partners(deps.machine).map((peer) => peer.id));
      notePeers();
      save();
    },
    stop() {
      phase = 'stopped';
    },
    appended(events) {
      const config = events.filter((event) => event.stream === 'config');
      const last = config.findLast((event) => event.origin === identity.peerId);
      if (last !== undefined) own = last.seq;
      const others = config.some((event) => event.entity.startsWith('peer_')) && notePeers();
      if (others || last !== undefined) save();
    },
    holdReason() {
      const end = forks.endOf(identity.peerId);
      if (end < Number.POSITIVE_INFINITY)
        return (
          `this host's key signed two histories (a second host with its key, or a restored copy of its database), so from its ` +
          `event ${end} on nothing of it counts anywhere; remove it from the cluster and bootstrap it again`
        );
      const missed = missingReason();
      if (missed !== undefined) return missed;
      if (views.cluster().cluster_id === undefined) return undefined;
      const forgotten = exchange.forgotten();
      if (forgotten > 0)
        return `this host lost ${forgotten} of its own events (restored from an older backup?) and is fetching them from its peers`;
      if (phase === 'stopped') return undefined;
      const starting = phase === 'new' && knownAtStart.size > 0;
      if (!starting && (phase === 'new' || clock.monotonic() - startedAt > SETTLE_LIMIT)) return undefined;
      // Peers that joined since then have met this host as it is now.
      const open = [...links.values()].filter(
        (link) => knownAtStart.has(link.peer) && !link.attempted,
      ).length;
      return open === 0 && !starting
        ? undefined
        : `this host has just started and compares its log with its peers' (still to answer: ${open})`;
    },
  };
}
