import type { PeerId } from '../../events/brand.ts';
import { newSession, type Session, type Sessions } from '../../src/gossip/sessions.ts';

export const EMPTY = new Uint8Array(0);

const keys = {
  sessionId: '0'.repeat(32),
  handshake: { initiator: EMPTY, responder: EMPTY },
  gossip: { initiator: EMPTY, responder: EMPTY },
  carrier: EMPTY,
  tunnel: () => EMPTY,
  erase: () => {},
};

const made = new Map<PeerId, Session>();
/** One session with each peer, for ever young and the same for all. */
export function sessionWith(peerId: PeerId): Session {
  let session = made.get(peerId);
  if (session === undefined) {
    session = newSession({
      peerId,
      side: 'initiator',
      keys,
      establishedAt: Number.MAX_SAFE_INTEGER,
      offset: 0,
      confirmed: true,
      endsAt: undefined,
    });
    made.set(peerId, session);
  }
  return session;
}

export const standingSessions: Sessions = {
  current: () => undefined,
  byId: () => undefined,
  onCurrent: () => () => {},
  onRetired: () => () => {},
  add: () => {},
  forSending: sessionWith,
  find: () => undefined,
  confirm: () => {},
  end: () => {},
  endAll: () => {},
  sweep: () => {},
  tunnel: () => undefined,
  size: 0,
};
