/**
 * Which keys a peer's datagrams are sealed and opened with. A session of the handshake gives a key for each direction and epoch;
 * the epoch follows from the session's age, so both ends change keys without a word, and the receiver has its neighbours ready
 * before the sender changes. A key that has been left is never taken up again: its counter would start anew.
 */
import { hkdfSync } from 'node:crypto';
import type { TunnelKeySource } from './contract.ts';
import { AES_256_GCM, CHACHA20_POLY1305, type SnapshotReceiveKey, type SnapshotSendKey } from './snapshot.ts';

export interface KeyringOptions {
  /** Age at which a key is replaced, ms. */
  readonly rekeyAfterMs: number;
  /** Datagrams after which it is replaced before that. */
  readonly rekeyAfterDatagrams: number;
  /** What this host seals with for peers that do not open AEGIS-128L; it opens both of OpenSSL's. */
  readonly aead: number;
}

/** Epochs ready on either side of the present one: what the ends' clocks may differ by. */
const NEIGHBOURS = 2;
/** Epochs ready ahead when the peer may have moved on without us: a session's whole life at the default age. */
const FAR_AHEAD = 64;
/** How long both ends have a new session before either sends under it unheard, ms. */
const SWITCH_GRACE_MS = 3_000;

/** Datagrams by id of the key. The same object says that nothing has been carried since. */
export interface Carried {
  readonly sent: ReadonlyMap<number, number>;
  readonly received: ReadonlyMap<number, number>;
}

const UNCHANGED = { changed: false, switched: false } as const;

interface Sending extends SnapshotSendKey {
  readonly epoch: number;
}

interface Session {
  readonly id: string;
  readonly since: number;
  /** Added to the epoch that the age gives. */
  ahead: number;
  /** The highest epoch that may not be sent under any more. */
  left: number;
  /** The highest epoch heard; -1 for none. */
  heard: number;
  readonly receive: Map<number, SnapshotReceiveKey>;
}

const NO_SALT = new Uint8Array(0);
const expand = (key: Uint8Array, label: string, length: number): Uint8Array =>
  new Uint8Array(hkdfSync('sha256', key, NO_SALT, label, length));

/** Both ends derive the same index from a key, and nobody else can. */
export const indexOf = (key: Uint8Array): number =>
  Buffer.from(expand(key, 'arctic v1 tunnel index', 4)).readUInt32LE();
export const aesKeyOf = (key: Uint8Array): Uint8Array => expand(key, 'arctic v1 tunnel aes-256-gcm', 32);
export const chachaKeyOf = (key: Uint8Array): Uint8Array =>
  expand(key, 'arctic v1 tunnel chacha20-poly1305', 32);
export const aegisKeyOf = (key: Uint8Array): Uint8Array => expand(key, 'arctic v1 tunnel aegis-128l', 32);

/** The keys of one peer. */
export class Keyring {
  readonly #peerId: string;
  readonly #options: KeyringOptions;
  readonly #source: Pick<TunnelKeySource, 'current' | 'tunnelKeys'>;
  readonly #nextId: () => number;
  readonly #sessions = new Map<string, Session>();
  #sendingSession: Session | undefined;
  #sending: Sending | undefined;
  #wide = false;
  /** What the last look was taken at, and until when another would find the same. */
  #seen: { readonly carried: Carried; readonly current: string | undefined } | undefined;
  #goodUntil = Number.NEGATIVE_INFINITY;

  constructor(
    peerId: string,
    options: KeyringOptions,
    source: Pick<TunnelKeySource, 'current' | 'tunnelKeys'>,
    nextId: () => number,
  ) {
    this.#peerId = peerId;
    this.#options = options;
    this.#source = source;
    this.#nextId = nextId;
  }

  get send(): SnapshotSendKey | undefined {
    return this.#sending;
  }
  get receive(): readonly SnapshotReceiveKey[] {
    return [...this.#sessions.values()].flatMap((session) => [...session.receive.values()]);
  }
  get empty(): boolean {
    return this.#sessions.size === 0;
  }
  get epoch(): number | null {
    return this.#sending?.epoch ?? null;
  }
  /** When the session in use was first seen. */
  get since(): number | undefined {
    return this.#sendingSession?.since;
  }

  /** Whether we send under a session that the peer may not know of: it has been silent under it, and waits for a word of ours. */
  unheard(now: number): boolean {
    const session = this.#sendingSession;
    return session !== undefined && session.heard < 0 && now - session.since < SWITCH_GRACE_MS;
  }

  /** Keys of epochs far ahead too, until the peer is heard again. */
  widen(): void {
    this.#wide = true;
    this.#seen = undefined;
  }

  /**
   * Looks at the time, the sessions and what each key has carried. True when the keys have changed; `switched` tells whether
   * another session is sent under now, which the peer should hear of.
   */
  update(now: number, carried: Carried): { readonly changed: boolean; readonly switched: boolean } {
    const current = this.#source.current(this.#peerId)?.sessionId;
    if (now < this.#goodUntil && this.#seen?.carried === carried && this.#seen.current === current)
      return UNCHANGED;
    let changed = false;
    if (current !== undefined && !this.#sessions.has(current))
      this.#sessions.set(current, {
        id: current,
        since: now,
        ahead: 0,
        left: -1,
        heard: -1,
        receive: new Map(),
      });
    for (const session of this.#sessions.values()) {
      this.#listen(session, now, carried.received);
      if (session.id === current && this.#fillWindow(session, now)) changed = true;
    }
    const switched = this.#chooseSession(now, current);
    const renewed = this.#chooseEpoch(now, current, carried.sent);
    changed = changed || switched || renewed;
    this.#seen = { carried, current };
    this.#goodUntil = changed ? now : this.#nextChange(now, current);
    return { changed, switched };
  }

  /** When time alone changes something next; `now` while something is still wanted of the session. */
  #nextChange(now: number, current: string | undefined): number {
    if (current === undefined) return Number.POSITIVE_INFINITY;
    const session = this.#sendingSession;
    if (session?.id !== current || this.#sending === undefined) return now;
    const present = this.#epochAt(session, now);
    if (this.#sending.epoch < present || !session.receive.has(present + NEIGHBOURS)) return now;
    return session.since + (present - session.ahead + 1) * this.#options.rekeyAfterMs;
  }

  /** Forgets a session; true when it was one of ours. */
  retire(sessionId: string): boolean {
    const session = this.#sessions.get(sessionId);
    if (session === undefined) return false;
    this.#sessions.delete(sessionId);
    this.#seen = undefined;
    for (const epoch of [...session.receive.keys()]) drop(session, epoch);
    if (this.#sendingSession === session) {
      wipe(this.#sending);
      this.#sending = undefined;
      this.#sendingSession = undefined;
    }
    return true;
  }

  wipe(): void {
    for (const id of [...this.#sessions.keys()]) this.retire(id);
  }

  #epochAt(session: Session, now: number): number {
    return session.ahead + Math.floor((now - session.since) / this.#options.rekeyAfterMs);
  }

  #listen(session: Session, now: number, received: ReadonlyMap<number, number>): void {
    for (const [epoch, key] of session.receive)
      if (epoch > session.heard && (received.get(key.id) ?? 0) > 0) {
        session.heard = epoch;
        this.#wide = false;
      }
    // The peer's clock is ahead of ours (this host was asleep): follow it.
    session.ahead += Math.max(0, session.heard - this.#epochAt(session, now));
  }

  #fillWindow(session: Session, now: number): boolean {
    const present = this.#epochAt(session, now);
    const first = Math.max(0, present - NEIGHBOURS);
    const last = present + (this.#wide ? FAR_AHEAD : NEIGHBOURS);
    let changed = false;
    for (const epoch of [...session.receive.keys()])
      if (epoch < first) {
        drop(session, epoch);
        changed = true;
      }
    for (let epoch = first; epoch <= last; epoch += 1) {
      if (session.receive.has(epoch)) continue;
      const keys = this.#source.tunnelKeys(this.#peerId, epoch);
      if (keys?.sessionId !== session.id) break;
      session.receive.set(epoch, {
        id: this.#nextId(),
        index: indexOf(keys.receive),
        aes: aesKeyOf(keys.receive),
        chacha: chachaKeyOf(keys.receive),
        aegis: aegisKeyOf(keys.receive),
      });
      keys.send.fill(0);
      keys.receive.fill(0);
      changed = true;
    }
    return changed;
  }

  /** An end that knows no other session sends at once; one that does waits until the peer surely has the new one too. */
  #chooseSession(now: number, current: string | undefined): boolean {
    const newest = current === undefined ? undefined : this.#sessions.get(current);
    if (newest === undefined || newest === this.#sendingSession) return false;
    const ready =
      this.#sendingSession === undefined || newest.heard >= 0 || now - newest.since >= SWITCH_GRACE_MS;
    if (!ready) return false;
    this.#leave();
    this.#sendingSession = newest;
    return true;
  }

  #chooseEpoch(now: number, current: string | undefined, sent: ReadonlyMap<number, number>): boolean {
    const session = this.#sendingSession;
    if (session === undefined || session.id !== current) return false;
    if (
      this.#sending !== undefined &&
      (sent.get(this.#sending.id) ?? 0) >= this.#options.rekeyAfterDatagrams &&
      this.#sending.epoch >= this.#epochAt(session, now)
    )
      session.ahead += 1;
    const epoch = Math.max(this.#epochAt(session, now), session.left + 1);
    if (this.#sending !== undefined && this.#sending.epoch >= epoch) return false;
    const keys = this.#source.tunnelKeys(this.#peerId, epoch);
    if (keys?.sessionId !== session.id) return false;
    this.#leave();
    this.#sending = {
      id: this.#nextId(),
      epoch,
      index: indexOf(keys.send),
      aead: this.#options.aead,
      key: this.#options.aead === CHACHA20_POLY1305 ? chachaKeyOf(keys.send) : aesKeyOf(keys.send),
      aegis: aegisKeyOf(keys.send),
    };
    keys.send.fill(0);
    keys.receive.fill(0);
    return true;
  }

  #leave(): void {
    if (this.#sending === undefined) return;
    if (this.#sendingSession !== undefined)
      this.#sendingSession.left = Math.max(this.#sendingSession.left, this.#sending.epoch);
    wipe(this.#sending);
    this.#sending = undefined;
  }
}

function wipe(key: SnapshotSendKey | undefined): void {
  key?.key.fill(0);
  key?.aegis.fill(0);
}

function drop(session: Session, epoch: number): void {
  const key = session.receive.get(epoch);
  key?.aes.fill(0);
  key?.chacha.fill(0);
  key?.aegis.fill(0);
  session.receive.delete(epoch);
}

export const defaultAead = (hasAes: boolean): number => (hasAes ? AES_256_GCM : CHACHA20_POLY1305);
