import type { PeerId } from '../../events/brand.ts';
import type { EventData } from '../../events/catalogue.ts';
import { ArcticError } from '../../events/errors.ts';
import type { PeerView, Views } from '../../projections/views.ts';
import type { Decision, DecisionContext } from './decision.ts';
import { requireChangeable, requireWritable } from './gate.ts';
import { sameValue } from './same-value.ts';

/** A peer that has proved its key in a handshake. */
export interface PeerCandidate {
  readonly peer_id: PeerId;
  /** base64, 32 bytes. */
  readonly public_key: string;
  readonly name: string | null;
  readonly address: string;
  readonly endpoints: readonly string[];
  /** Whether an operator asked this host to add it, or it came to us by itself. */
  readonly invited: boolean;
}

export interface UpdatePeerCommand {
  readonly name?: string;
  readonly address?: string;
  readonly endpoints?: readonly string[];
  readonly api_access?: 'open' | 'internal';
}

export const isMember = (peer: PeerView | undefined): boolean => peer?.membership === 'member';

/** Why a peer is set aside. The joins beyond the cap are the last by the events' own clocks, so every member names the same ones. */
export const setAsideReason = (views: Pick<Views, 'license'>): string =>
  `set aside: it joined last, past the ${views.license()?.max_nodes ?? 0} nodes of the license; ` +
  'its services rest until a peer is removed or a license with more nodes is installed';

/** Said of a peer whose history ended because it signed two. The health table knows it by its first words. */
export const forkedReason = (forkedAt: number): string =>
  `signed two histories: from its event ${forkedAt} on nothing of it counts on any host`;

const memberCount = (views: Views): number => views.peers.list().filter(isMember).length;

/** Whether `peers add` may start a handshake at all; appends nothing itself. */
export function decideInvitePeer(
  views: Views,
  command: { readonly address: string; readonly name: string | undefined },
  context: DecisionContext,
): Decision<null> {
  const license = requireChangeable(views, context);
  const known = views.peers.list().find((peer) => isMember(peer) && peer.address === command.address);
  if (known !== undefined) throw alreadyMember();
  if (memberCount(views) >= license.max_nodes) throw nodeLimit();
  if (command.name !== undefined) refuseTakenName(views, command.name, undefined);
  return { events: [], result: null };
}

/**
 * Admits a peer after its handshake. A peer that left or was removed comes back only when an operator adds it again;
 * one that a merge set aside for want of a node in the license, only when there is room.
 */
export function decideAdmitPeer(
  views: Views,
  candidate: PeerCandidate,
  context: DecisionContext,
): Decision<PeerId> {
  const license = requireWritable(views, context);
  const known = views.peers.get(candidate.peer_id);
  if (candidate.peer_id === context.localPeer || isMember(known)) throw alreadyMember();
  if (known !== undefined && known.public_key !== candidate.public_key) {
    throw new ArcticError('HANDSHAKE_FAILED', 'handshake failed: invalid signature', [
      {
        pointer: '/public_key',
        message: `${candidate.peer_id} was known by another key; bootstrap that agent again, so that it gets an identity of its own`,
      },
    ]);
  }
  if ((known?.membership === 'removed' || known?.membership === 'left') && !candidate.invited) {
    throw new ArcticError(
      'HANDSHAKE_FAILED',
      `handshake failed: ${candidate.peer_id} is no longer a member; add it again from a member with: arctic peers add ${candidate.address}`,
    );
  }
  if (memberCount(views) >= license.max_nodes) throw nodeLimit();
  const { peer_id, public_key, name, address, endpoints } = candidate;
  const departures = known?.departures ?? [];
  return {
    events: [
      {
        type: 'peer.admitted',
        entity: peer_id,
        data: {
          peer_id,
          public_key,
          name,
          address,
          endpoints: [...endpoints],
          // Undone by name, so that a departure nobody here knows of still stands.
          ...(departures.length === 0 ? {} : { readmits: [...departures] }),
        },
      },
    ],
    result: peer_id,
  };
}

/** Changes the settings of a member; only the fields that differ become part of the event. */
export function decideUpdatePeer(
  views: Views,
  id: PeerId,
  command: UpdatePeerCommand,
  context: DecisionContext,
): Decision<PeerId> {
  requireChangeable(views, context);
  const peer = requirePeer(views, id);
  if (!isMember(peer)) {
    throw new ArcticError(
      'INVALID_REQUEST',
      `peer ${id} is ${peer.membership === 'set_aside' ? 'set aside' : peer.membership}, so it has no settings to change.`,
    );
  }
  const data: EventData['peer.updated'] = {};
  if (command.name !== undefined && command.name !== peer.name) {
    refuseTakenName(views, command.name, id);
    data.name = command.name;
  }
  if (command.address !== undefined && command.address !== peer.address) data.address = command.address;
  if (command.endpoints !== undefined && !sameValue(command.endpoints, peer.endpoints)) {
    data.endpoints = [...command.endpoints];
  }
  if (command.api_access !== undefined && command.api_access !== peer.api_access) {
    data.api_access = command.api_access;
  }
  const changed = Object.keys(data).length > 0;
  return { events: changed ? [{ type: 'peer.updated', entity: id, data }] : [], result: id };
}

/**
 * Removes a peer. Its events up to `lastSeq`, the last that this host holds, stand; later ones are refused everywhere.
 * Services that name it stay, and report that their peer is gone: it may be added again.
 */
export function decideRemovePeer(
  views: Views,
  id: PeerId,
  lastSeq: number,
  context: DecisionContext,
): Decision<null> {
  requireChangeable(views, context);
  if (id === context.localPeer) {
    throw new ArcticError(
      'INVALID_REQUEST',
      `${id} is this agent itself; to take it out of its cluster use: arctic peers remove-self`,
    );
  }
  const peer = requirePeer(views, id);
  if (peer.membership === 'removed') {
    throw new ArcticError('NOT_FOUND', `peer ${id} (${peer.name}) was removed already.`);
  }
  return {
    events: [{ type: 'peer.removed', entity: id, data: { peer_id: id, last_seq: lastSeq } }],
    result: null,
  };
}

/** Takes the local peer out of its cluster. */
export function decideLeave(views: Views, context: DecisionContext): Decision<null> {
  const membership = views.peers.get(context.localPeer)?.membership;
  if (membership === 'left' || membership === 'removed')
    throw new ArcticError('NOT_FOUND', 'this agent is not a member of a cluster any more.');
  requireChangeable(views, context);
  return {
    events: [{ type: 'peer.left', entity: context.localPeer, data: { peer_id: context.localPeer } }],
    result: null,
  };
}

export function requirePeer(views: Views, id: PeerId): PeerView {
  const peer = views.peers.get(id);
  if (peer === undefined)
    throw new ArcticError('NOT_FOUND', `there is no peer ${id}; see: arctic peers list`);
  return peer;
}

const alreadyMember = () => new ArcticError('ALREADY_EXISTS', 'peer already exists in cluster');
const nodeLimit = () => new ArcticError('NODE_LIMIT_EXCEEDED', 'handshake failed: node limit exceeded');

/** Names are how compose files refer to peers. Two halves of a partition may still choose one name; ids stay apart. */
function refuseTakenName(views: Views, name: string, except: PeerId | undefined): void {
  const other = views.peers.list().find((peer) => peer.id !== except && isMember(peer) && peer.name === name);
  if (other === undefined) return;
  throw new ArcticError('ALREADY_EXISTS', `peer ${other.id} has the name ${JSON.stringify(name)} already.`, [
    { pointer: '/name', message: 'is taken' },
  ]);
}
