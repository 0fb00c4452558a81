import type { PeerId } from '../../events/brand.ts';
import type { PeerView, Views } from '../../projections/views.ts';
import { setAsideReason } from '../commands/peers.ts';
import type { Report } from './machine/core.ts';

/** Says in the log of this host who came into the cluster, who went, and whom the node cap sets aside. */
export interface MembershipWatch {
  /** Compares with the last look; to be called whenever the peers have changed. The first look says nothing but what is wrong. */
  review(): void;
}

type Membership = PeerView['membership'];

export function createMembershipWatch(deps: {
  readonly views: Pick<Views, 'peers' | 'license'>;
  readonly localPeer: PeerId;
  readonly report: Report;
}): MembershipWatch {
  let known: ReadonlyMap<PeerId, Membership> | undefined;

  const textOf = (membership: Membership, before: Membership | undefined): string => {
    switch (membership) {
      case 'set_aside':
        return `peer is ${setAsideReason(deps.views)}`;
      case 'removed':
        return 'peer was removed from the cluster';
      case 'left':
        return 'peer left the cluster';
      case 'member':
        return before === 'set_aside'
          ? 'peer has a node of the license again'
          : 'peer is a member of the cluster';
    }
  };

  const say = ({ id, name, address, membership }: PeerView, before: Membership | undefined): void => {
    const level = membership === 'set_aside' || membership === 'removed' ? 'warn' : 'info';
    const fields = { peer: id, name, address, local: id === deps.localPeer };
    deps.report(level, textOf(membership, before), fields);
  };

  return {
    review() {
      const before = known;
      const peers = deps.views.peers.list();
      known = new Map(peers.map((peer) => [peer.id, peer.membership]));
      for (const peer of peers) {
        const last = before?.get(peer.id);
        if (before === undefined ? peer.membership === 'set_aside' : last !== peer.membership)
          say(peer, last);
      }
    },
  };
}
