/**
 * One carrier link: an authenticated, encrypted TCP connection to a peer on which one flow at a time travels.
 * The link knows frames and keys; which flow is on it is the business of `flow.ts`.
 */
import { timingSafeEqual } from 'node:crypto';
import type { Socket } from 'node:net';
import type { CarrierKeys, CarrierSession } from './contract.ts';
import type { EngineClock, EngineRandom } from './dependencies.ts';
import {
  decodeHeader,
  decodeReset,
  FRAME,
  FrameError,
  type FrameType,
  HEADER_LENGTH,
  TAG_LENGTH,
} from './frames.ts';
import {
  createOpener,
  createSealer,
  decodeHello,
  decodeWelcome,
  deriveSecrets,
  encodeHello,
  encodeWelcome,
  HELLO_LENGTH,
  type LinkSecrets,
  NONCE_LENGTH,
  type Opener,
  type Sealer,
  WELCOME_LENGTH,
} from './link-keys.ts';

export interface LinkHandlers {
  /** A frame for the flow: anything but PING, PONG, PAD, REKEY and CONFIRM. Throw FrameError to close the link. */
  frame(type: FrameType, payload: Buffer): void;
  /** What was written has gone; more may follow. */
  drained(): void;
}

export interface LinkOptions {
  /** Milliseconds from the TCP connection to the peer's CONFIRM. */
  readonly handshakeTimeout: number;
  /** Frames after which a direction gets a new key. */
  readonly rekeyFrames: number;
  /** Milliseconds after which it does, at the next frame. */
  readonly rekeyAfter: number;
}

export interface LinkDependencies {
  readonly clock: EngineClock;
  readonly random: EngineRandom;
  readonly options: LinkOptions;
  /** Called once the peer has proved that it holds the session's key. Must set handlers before it returns. */
  readonly established: (link: Link) => void;
  /** Called once. The reason is undefined when this side closed it. */
  readonly closed: (link: Link, reason: Error | undefined, established: boolean) => void;
}

type Stage = 'connect' | 'hello' | 'welcome' | 'confirm' | 'established' | 'closed';

const NOTHING = Buffer.alloc(0);
/** A peer that asks without reading the answers gets no more of them past this many unsent bytes. */
const PONG_LIMIT = 262_144;

export class Link {
  readonly dialer: boolean;
  /** Undefined until an accepted link has named its session. */
  session: CarrierSession | undefined;
  handlers: LinkHandlers;
  /** Number of the flow on the link or, when idle, of the last one. */
  flow = 0;
  /** Its session was renewed: no further flow. */
  retiring = false;
  /** `clock.monotonic()` of the last frame that arrived. */
  heardAt: number;
  readonly socket: Socket;
  readonly #deps: LinkDependencies;
  readonly #idle: LinkHandlers = {
    frame: (type, payload) => {
      // The RESET of a flow that both sides have finished may still be on its way.
      if (type === FRAME.reset && decodeReset(payload).flow === this.flow) return;
      throw new FrameError(`a frame of type ${type} without a flow`);
    },
    drained: () => undefined,
  };
  #stage: Stage;
  #pending: Buffer = NOTHING;
  #paused = false;
  #parsing = false;
  #sealer: Sealer | undefined;
  #opener: Opener | undefined;
  #secrets: LinkSecrets | undefined;
  #nonce: Uint8Array = NOTHING;
  #keyedAt = 0;
  #failure: Error | undefined;
  #cancelTimeout: () => void;
  #pongWaiter: (() => void) | undefined;

  private constructor(
    socket: Socket,
    dialer: boolean,
    session: CarrierSession | undefined,
    deps: LinkDependencies,
  ) {
    this.handlers = this.#idle;
    this.socket = socket;
    this.dialer = dialer;
    this.session = session;
    this.#deps = deps;
    this.#stage = dialer ? 'connect' : 'hello';
    this.heardAt = deps.clock.monotonic();
    this.#cancelTimeout = deps.clock.after(deps.options.handshakeTimeout, () => {
      this.destroy(new Error('the carrier handshake took too long'));
    });
    socket.on('data', (chunk: Buffer) => this.#receive(chunk));
    socket.on('drain', () => this.handlers.drained());
    socket.on('end', () => this.destroy(this.#failure ?? new Error('the peer closed the link')));
    socket.on('error', (error) => {
      this.#failure ??= error;
    });
    socket.on('close', () => {
      if (this.#stage === 'closed') return;
      this.#end();
    });
  }

  /** `socket` is connecting or connected. */
  static dial(socket: Socket, session: CarrierSession, deps: LinkDependencies): Link {
    const link = new Link(socket, true, session, deps);
    const hello = (): void => {
      link.#stage = 'welcome';
      link.#nonce = deps.random.bytes(NONCE_LENGTH);
      socket.write(encodeHello(session.sessionId, link.#nonce));
    };
    if (socket.connecting) socket.once('connect', hello);
    else hello();
    return link;
  }

  static accept(socket: Socket, keys: CarrierKeys, deps: LinkDependencies): Link {
    const link = new Link(socket, false, undefined, deps);
    link.#lookup = (sessionId) => keys.byId(sessionId);
    return link;
  }

  #lookup: (sessionId: string) => CarrierSession | undefined = () => undefined;

  get established(): boolean {
    return this.#stage === 'established';
  }

  get closed(): boolean {
    return this.#stage === 'closed';
  }

  /** False when the socket's buffer is full: write no more until `drained`. */
  send(type: FrameType, payload: Uint8Array): boolean {
    if (this.#stage !== 'established' || this.#sealer === undefined) return true;
    const { rekeyFrames, rekeyAfter } = this.#deps.options;
    if (this.#sealer.sealed() >= rekeyFrames || this.#deps.clock.monotonic() - this.#keyedAt >= rekeyAfter) {
      this.#keyedAt = this.#deps.clock.monotonic();
      this.socket.write(this.#sealer.seal(FRAME.rekey, NOTHING));
    }
    return this.socket.write(this.#sealer.seal(type, payload));
  }

  /** Resolves the round trip by `answered`; a link that does not answer is found by its `heardAt`. */
  ping(answered: () => void): void {
    this.#pongWaiter = answered;
    this.send(FRAME.ping, this.#deps.random.bytes(8));
  }

  /** Reads no more from the peer: its own sends stop when the TCP window is full. */
  pause(): void {
    this.#paused = true;
    this.socket.pause();
  }

  resume(): void {
    if (!this.#paused) return;
    this.#paused = false;
    this.#parse();
    if (!this.#paused) this.socket.resume();
  }

  destroy(reason?: Error): void {
    if (this.#stage === 'closed') return;
    this.#failure ??= reason;
    this.socket.destroy();
    this.#end();
  }

  #end(): void {
    const established = this.established;
    this.#stage = 'closed';
    this.#cancelTimeout();
    this.#pending = NOTHING;
    this.#deps.closed(this, this.#failure, established);
  }

  #receive(chunk: Buffer): void {
    if (this.#stage === 'closed') return;
    this.heardAt = this.#deps.clock.monotonic();
    this.#pending = this.#pending.length === 0 ? chunk : Buffer.concat([this.#pending, chunk]);
    this.#parse();
  }

  #parse(): void {
    // A handler may resume the link from inside a frame; the outer loop then goes on.
    if (this.#parsing) return;
    this.#parsing = true;
    try {
      while (!this.#paused && this.#step());
    } catch (error) {
      this.destroy(error instanceof Error ? error : new Error(String(error)));
    } finally {
      this.#parsing = false;
    }
  }

  /** Takes one unit off the received bytes; false when it is not complete. */
  #step(): boolean {
    if (this.#stage === 'closed') return false;
    if (this.#stage === 'hello') {
      const hello = this.#take(HELLO_LENGTH);
      if (hello === undefined) return false;
      this.#welcome(hello);
      return true;
    }
    if (this.#stage === 'welcome') {
      const welcome = this.#take(WELCOME_LENGTH);
      if (welcome === undefined) return false;
      if (this.session === undefined) throw new Error('a dialed link has a session');
      this.#agree(this.session, this.session.initiator, this.#nonce, decodeWelcome(welcome));
      this.#stage = 'confirm';
      return true;
    }
    if (this.#pending.length < HEADER_LENGTH) return false;
    const { type, length } = decodeHeader(this.#pending);
    if (this.#stage === 'confirm' && type !== FRAME.confirm) {
      throw new FrameError(`a frame of type ${type} before CONFIRM`);
    }
    const frame = this.#take(HEADER_LENGTH + length + TAG_LENGTH);
    if (frame === undefined || this.#opener === undefined) return false;
    const payload = this.#opener.open(type, frame.subarray(0, HEADER_LENGTH), frame.subarray(HEADER_LENGTH));
    if (this.#stage === 'confirm') this.#confirmed(payload);
    else this.#dispatch(type, payload);
    return true;
  }

  #take(length: number): Buffer | undefined {
    if (this.#pending.length < length) return undefined;
    const taken = this.#pending.subarray(0, length);
    this.#pending = this.#pending.length === length ? NOTHING : this.#pending.subarray(length);
    return taken;
  }

  /** Acceptor: answers a HELLO of a session we know with our nonce and our proof. */
  #welcome(bytes: Buffer): void {
    const hello = decodeHello(bytes);
    const session = this.#lookup(hello.sessionId);
    if (session === undefined) throw new Error('the carrier names a session that is not known here');
    this.session = session;
    const nonce = this.#deps.random.bytes(NONCE_LENGTH);
    this.#agree(session, !session.initiator, hello.nonce, nonce, hello.offersAegis);
    this.#stage = 'confirm';
    this.socket.write(encodeWelcome(nonce));
    this.#sendConfirm();
  }

  #agree(
    session: CarrierSession,
    dialerIsInitiator: boolean,
    dialerNonce: Uint8Array,
    acceptorNonce: Uint8Array,
    offersAegis = false,
  ): void {
    const secrets = deriveSecrets(session, dialerIsInitiator, dialerNonce, acceptorNonce, offersAegis);
    this.#sealer = createSealer(this.dialer ? secrets.toAcceptor : secrets.toDialer);
    this.#opener = createOpener(this.dialer ? secrets.toDialer : secrets.toAcceptor);
    this.#secrets = secrets;
    this.#keyedAt = this.#deps.clock.monotonic();
  }

  #sendConfirm(): void {
    if (this.#sealer === undefined || this.#secrets === undefined) return;
    this.socket.write(this.#sealer.seal(FRAME.confirm, this.#secrets.transcript));
  }

  #confirmed(payload: Buffer): void {
    if (this.#secrets === undefined || !timingSafeEqual(payload, this.#secrets.transcript)) {
      throw new FrameError('the peer confirms another handshake');
    }
    if (this.dialer) this.#sendConfirm();
    this.#secrets.toAcceptor.fill(0);
    this.#secrets.toDialer.fill(0);
    this.#secrets = undefined;
    this.#cancelTimeout();
    this.#stage = 'established';
    this.#deps.established(this);
  }

  #dispatch(type: FrameType, payload: Buffer): void {
    switch (type) {
      case FRAME.confirm:
        throw new FrameError('a second CONFIRM');
      case FRAME.ping:
        if (this.socket.writableLength < PONG_LIMIT) this.send(FRAME.pong, payload);
        return;
      case FRAME.pong: {
        const answered = this.#pongWaiter;
        this.#pongWaiter = undefined;
        answered?.();
        return;
      }
      case FRAME.pad:
      case FRAME.rekey:
        return;
      default:
        this.handlers.frame(type, payload);
    }
  }

  /** Back to a link without a flow. */
  clearHandlers(): void {
    this.handlers = this.#idle;
  }
}
