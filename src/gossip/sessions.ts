import type { PeerId } from '../../events/brand.ts';
import type { Direction, PairKeys } from '../identity/key-schedule.ts';
import { RETIRE_AFTER, SESSION_MAX_AGE } from './parameters.ts';
import { createReplayWindow, type ReplayWindow } from './replay-window.ts';

/** One live key agreement with one peer. */
export interface Session {
  readonly id: string;
  readonly peerId: PeerId;
  /** Which side of the handshake this host was: names its sending keys. */
  readonly side: Direction;
  readonly keys: PairKeys;
  /** Monotonic milliseconds. */
  readonly establishedAt: number;
  /** The peer's wall clock minus ours at the handshake, ms. */
  readonly offset: number;
  readonly window: ReplayWindow;
  /** Counter of the last message sealed here. */
  sent: number;
  /** The other side has shown that it holds the session too; until then nothing is sent under it. */
  confirmed: boolean;
  /** Monotonic time at which it ends; undefined while it is the current one. */
  endsAt: number | undefined;
}

/** Keys of the IP tunnel with one peer, for one epoch. */
export interface TunnelKeys {
  readonly sessionId: string;
  readonly send: Uint8Array;
  readonly receive: Uint8Array;
}

export type RetireReason = 'renewed' | 'removed';
export type RetireListener = (sessionId: string, reason: RetireReason, peerId: string) => void;

/** What the TCP engine needs of a session; the engine's own `CarrierSession`, which this room may not import. */
export interface CarrierKey {
  readonly sessionId: string;
  readonly peerId: string;
  /** 32 bytes, for carriers only. */
  readonly key: Uint8Array;
  readonly initiator: boolean;
}

export interface Sessions {
  /** Newest session with a peer; undefined before a handshake. */
  current(peerId: string): CarrierKey | undefined;
  /** Replaced sessions are found until they are retired. */
  byId(sessionId: string): CarrierKey | undefined;
  /** Called when another session is the newest with a peer, before what it replaces is retired. */
  onCurrent(listener: (peerId: string) => void): () => void;
  onRetired(listener: RetireListener): () => void;
  /** A fresh session. An initiator's is confirmed at once: the answer to its confirmation was sealed under it. */
  add(session: Session): void;
  /** The session to send under: the newest confirmed one. */
  forSending(peer: PeerId): Session | undefined;
  find(id: string): Session | undefined;
  /** The peer used the session: it becomes the one to send under, and older ones are retired. */
  confirm(session: Session): void;
  /** Ends one session, or all with a peer, now. */
  end(session: Session, reason: RetireReason): void;
  endAll(peer: PeerId, reason: RetireReason): void;
  /** Ends what is due at this monotonic time. */
  sweep(now: number): void;
  tunnel(peer: PeerId, epoch: number): TunnelKeys | undefined;
  readonly size: number;
}

/** Two sessions made within this time by both sides at once are ranked by peer id, not by age, ms. */
const SIMULTANEOUS = 10_000;

export function createSessions(deps: { readonly local: PeerId; readonly monotonic: () => number }): Sessions {
  const byId = new Map<string, Session>();
  const ofPeer = new Map<PeerId, Session[]>();
  const listeners = new Set<RetireListener>();
  const currentListeners = new Set<(peerId: string) => void>();
  /** Id of the session that was last said to be the newest. */
  const announced = new Map<PeerId, string>();

  const initiatorOf = (session: Session): PeerId =>
    session.side === 'initiator' ? deps.local : session.peerId;

  /** When both sides start at once both sessions work; the smaller peer id's is preferred, so both choose the same one. */
  const better = (a: Session, b: Session): boolean =>
    Math.abs(a.establishedAt - b.establishedAt) < SIMULTANEOUS && initiatorOf(a) !== initiatorOf(b)
      ? initiatorOf(a) < initiatorOf(b)
      : a.establishedAt > b.establishedAt;

  const forSending = (peer: PeerId): Session | undefined => {
    let best: Session | undefined;
    for (const session of ofPeer.get(peer) ?? []) {
      if (session.confirmed && (best === undefined || better(session, best))) best = session;
    }
    return best;
  };

  const announce = (peer: PeerId): void => {
    const id = forSending(peer)?.id;
    if (id === announced.get(peer)) return;
    if (id === undefined) {
      announced.delete(peer);
      return;
    }
    announced.set(peer, id);
    for (const listener of currentListeners) listener(peer);
  };

  const end = (session: Session, reason: RetireReason): void => {
    if (!byId.delete(session.id)) return;
    const rest = (ofPeer.get(session.peerId) ?? []).filter((one) => one !== session);
    if (rest.length > 0) ofPeer.set(session.peerId, rest);
    else ofPeer.delete(session.peerId);
    session.keys.erase();
    announce(session.peerId);
    for (const listener of listeners) listener(session.id, reason, session.peerId);
  };

  /** Replaced sessions stay a while, for messages and carriers under way. */
  const retireOthers = (peer: PeerId): void => {
    const current = forSending(peer);
    if (current === undefined) return;
    const endsAt = deps.monotonic() + RETIRE_AFTER;
    for (const session of ofPeer.get(peer) ?? []) {
      if (session !== current && session.confirmed)
        session.endsAt = Math.min(session.endsAt ?? endsAt, endsAt);
    }
  };

  const carrierSession = (session: Session | undefined): CarrierKey | undefined =>
    session && {
      sessionId: session.id,
      peerId: session.peerId,
      key: session.keys.carrier,
      initiator: session.side === 'initiator',
    };

  return {
    add(session) {
      byId.set(session.id, session);
      ofPeer.set(session.peerId, [...(ofPeer.get(session.peerId) ?? []), session]);
      if (!session.confirmed) return;
      retireOthers(session.peerId);
      announce(session.peerId);
    },
    forSending,
    find: (id) => byId.get(id),
    confirm(session) {
      if (session.confirmed) return;
      session.confirmed = true;
      session.endsAt = undefined;
      retireOthers(session.peerId);
      announce(session.peerId);
    },
    end,
    endAll(peer, reason) {
      for (const session of ofPeer.get(peer) ?? []) end(session, reason);
    },
    sweep(now) {
      for (const session of byId.values()) {
        const due = Math.min(
          session.endsAt ?? Number.POSITIVE_INFINITY,
          session.establishedAt + SESSION_MAX_AGE,
        );
        if (now >= due) end(session, 'renewed');
      }
    },
    tunnel(peer, epoch) {
      const session = forSending(peer);
      if (session === undefined) return undefined;
      const other = session.side === 'initiator' ? 'responder' : 'initiator';
      return {
        sessionId: session.id,
        send: session.keys.tunnel(session.side, epoch),
        receive: session.keys.tunnel(other, epoch),
      };
    },
    current: (peer) => carrierSession(forSending(peer as PeerId)),
    byId: (id) => carrierSession(byId.get(id)),
    onCurrent(listener) {
      currentListeners.add(listener);
      return () => currentListeners.delete(listener);
    },
    onRetired(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    get size() {
      return byId.size;
    },
  };
}

/** A session out of a finished handshake. `endsAt` bounds one that the other side never uses. */
export const newSession = (
  fields: Pick<Session, 'peerId' | 'side' | 'keys' | 'establishedAt' | 'offset' | 'confirmed' | 'endsAt'>,
): Session => ({ ...fields, id: fields.keys.sessionId, window: createReplayWindow(), sent: 0 });
