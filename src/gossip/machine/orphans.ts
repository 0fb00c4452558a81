import type { PeerId } from '../../../events/brand.ts';
import type { AnyNewEvent } from '../../../events/envelope.ts';
import type { PeerView } from '../../../projections/views.ts';
import type { MachineDeps } from './core.ts';
import type { Forks } from './forks.ts';

export interface OrphansDeps {
  readonly machine: MachineDeps;
  readonly forks: Pick<Forks, 'endOf'>;
  readonly record: (events: readonly AnyNewEvent[]) => void;
  readonly holdReason: () => string | undefined;
  /** Milliseconds within which one of several members speaks first. */
  readonly patience: number;
}

/**
 * Members whose only admission a fork excludes. Those who have met them hold their events and go on with them; whoever comes
 * later would have no key to take those events with. So a member that knows them admits them again, as they are now.
 */
export interface Orphans {
  /** Peers, or the end of a history, may have changed. */
  changed(): void;
  /** To be called on every tick. */
  review(): void;
}

export function createOrphans(deps: OrphansDeps): Orphans {
  const { forks } = deps;
  const { clock, identity, log, random, views } = deps.machine;
  /** Monotonic time at which this host speaks, unless somebody else did before. */
  const due = new Map<PeerId, number>();
  let stale = true;

  const orphaned = (): readonly PeerView[] => {
    if (views.peers.list().every((peer) => peer.forked_at === undefined)) return [];
    const stand = new Set<string>();
    const fell = new Map<string, string>();
    for (const event of log.read({ types: ['peer.admitted'] })) {
      if (event.type !== 'peer.admitted') continue;
      const { peer_id, public_key } = event.data;
      if (event.seq < forks.endOf(event.origin)) stand.add(peer_id);
      else fell.set(peer_id, public_key);
    }
    return views.peers
      .list()
      .filter(
        ({ id, membership, public_key }) =>
          id !== identity.peerId && membership === 'member' && fell.get(id) === public_key && !stand.has(id),
      );
  };

  return {
    changed() {
      stale = true;
    },
    review() {
      if (!stale) return;
      if (views.peers.get(identity.peerId)?.membership !== 'member') return;
      if (deps.holdReason() !== undefined) return;
      const found = orphaned();
      const now = clock.monotonic();
      for (const id of due.keys()) if (!found.some((peer) => peer.id === id)) due.delete(id);
      for (const { id, public_key, address, endpoints } of found) {
        const at = due.get(id) ?? now + random.fraction() * deps.patience;
        due.set(id, at);
        if (now < at) continue;
        due.delete(id);
        const data = { peer_id: id, public_key, name: null, address, endpoints: [...endpoints] };
        deps.record([{ type: 'peer.admitted', entity: id, data }]);
      }
      stale = due.size > 0;
    },
  };
}
