import type { PeerId } from '../../../events/brand.ts';
import type { AnyNewEvent } from '../../../events/envelope.ts';
import type { MachineDeps } from './core.ts';

export interface RemovalsDeps {
  readonly machine: MachineDeps;
  readonly record: (events: readonly AnyNewEvent[]) => void;
  readonly holdReason: () => string | undefined;
  /** First number of an origin that does not count, because it signed two histories from there on; else infinite. */
  readonly endOf: (origin: PeerId) => number;
  /** Milliseconds within which one of several members that hold the same speaks first. */
  readonly patience: number;
}

/**
 * A removal names the last event of the removed peer that its author held. A member that had received later ones by the time it
 * learns of the removal completes it with its own end, so that what the peer signed before its removal stands everywhere; the
 * largest end counts. What reaches a member after that is refused, so the end stops moving once everybody knows.
 */
export interface Removals {
  /** Looks at the removed peers; to be called on every tick and after every change of the peers. */
  review(): void;
  /** A removal may have come in. */
  changed(): void;
}

export function createRemovals(deps: RemovalsDeps): Removals {
  const { clock, identity, log, random, views } = deps.machine;
  /** Monotonic time at which this host speaks, unless somebody else did before. */
  const due = new Map<PeerId, number>();
  let stale = true;

  const exceeding = () => {
    if (!views.peers.list().some((peer) => peer.membership === 'removed')) return [];
    const vector = log.versionVector();
    return views.peers.list().flatMap((peer) => {
      const held = Math.min(vector[peer.id] ?? 0, deps.endOf(peer.id) - 1);
      const beyond = peer.membership === 'removed' && held > (peer.last_seq ?? held);
      return beyond ? [{ peer, held }] : [];
    });
  };

  return {
    changed() {
      stale = true;
    },
    review() {
      if (!stale) return;
      // Who is out of the cluster has no say, and who has forgotten its own events may not sign.
      if (views.peers.get(identity.peerId)?.membership !== 'member') return;
      if (deps.holdReason() !== undefined) return;
      const found = exceeding();
      const now = clock.monotonic();
      for (const id of due.keys()) if (!found.some(({ peer }) => peer.id === id)) due.delete(id);
      for (const { peer, held } of found) {
        const at = due.get(peer.id) ?? now + random.fraction() * deps.patience;
        due.set(peer.id, at);
        if (now < at) continue;
        due.delete(peer.id);
        const { id, departures } = peer;
        deps.record([
          {
            type: 'peer.removed',
            entity: id,
            data: { peer_id: id, last_seq: held, extends: departures.slice(0, 64) },
          },
        ]);
      }
      stale = due.size > 0;
    },
  };
}
