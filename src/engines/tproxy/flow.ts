/**
 * One flow: a local TCP connection (client or destination) joined with a leased link.
 *
 * Each direction ends with FINISH or RESET; after FINISH only RESET may follow. The flow is over when both
 * directions have ended, and the link is free again. Nothing is read from one side while the other is blocked, so a
 * flow holds at most one chunk and one socket buffer in each direction.
 */
import type { Socket } from 'node:net';
import { constants } from 'node:os';
import type { Counters } from './counters.ts';
import type { EngineClock } from './dependencies.ts';
import { errnoOf } from './errno.ts';
import {
  decodeFlow,
  decodeReset,
  encodeFlow,
  encodeReset,
  FRAME,
  FrameError,
  type FrameType,
  MAX_PAYLOAD,
} from './frames.ts';
import type { Link } from './link.ts';
import type { TokenBucket } from './token-bucket.ts';

/** After our RESET the peer's data is discarded until its last frame; a peer that sends on loses the link. */
export const DISCARD_BYTES = 32 * 1024 * 1024;
export const DISCARD_MS = 2_000;

export interface FlowOptions {
  readonly link: Link;
  readonly local: Socket;
  /** Limits what is read from `local`. */
  readonly bucket: TokenBucket;
  readonly counters: Counters;
  readonly clock: EngineClock;
  /** Closes `local` with RST. */
  readonly reset: (socket: Socket) => void;
  /** SO_ERROR of `local`; see `Sockets`. */
  readonly pendingError: (socket: Socket) => number;
  /** The link is free (or dead: see `link.closed`). The local connection may still flush its last bytes. */
  readonly released: () => void;
  /** Called once, after `released`: the local connection is closed as well. */
  readonly over: () => void;
  /** `local` is connected; it was still connecting when the flow began (exit). */
  readonly connected?: () => void;
  /** The other end, or the loss of the link, ended it before OPENED (entry). */
  readonly unreached?: () => void;
  /** `local` could not connect: another try, or undefined to give up. */
  readonly redial?: (error: NodeJS.ErrnoException) => Socket | undefined;
}

export class Flow {
  readonly #options: FlowOptions;
  readonly #number: number;
  #local: Socket;
  /** DATA that came before `local` was connected. */
  #early: Buffer | undefined;
  #sent: 'open' | 'finished' | 'reset' = 'open';
  #received: 'open' | 'finished' | 'reset' = 'open';
  #opened = false;
  #held: Buffer | undefined;
  #cancelGrant: (() => void) | undefined;
  #linkFull = false;
  #localEnded = false;
  #released = false;
  #over = false;
  #discarded = 0;
  #cancelDiscard: (() => void) | undefined;

  constructor(options: FlowOptions) {
    this.#options = options;
    this.#number = options.link.flow;
    this.#local = options.local;
    options.link.handlers = {
      frame: (type, payload) => this.#frame(type, payload),
      drained: () => {
        this.#linkFull = false;
        this.#readOn();
      },
    };
    this.#attach(options.local);
    if (options.local.destroyed) this.sendReset(constants.errno.ECONNABORTED);
  }

  /** Of this flow alone. */
  bytesIn = 0;
  bytesOut = 0;

  get closing(): boolean {
    return this.#sent !== 'open' || this.#received !== 'open';
  }

  get connecting(): boolean {
    return this.#local.connecting;
  }

  #attach(local: Socket): void {
    const { link, connected, redial, pendingError } = this.#options;
    let replaced = false;
    let established = !local.connecting;
    if (!established) {
      local.once('connect', () => {
        established = true;
        connected?.();
        const early = this.#early;
        this.#early = undefined;
        if (early !== undefined) this.#toLocal(early);
        if (this.#received === 'finished') local.end();
        if (!local.writableNeedDrain) link.resume();
      });
    }
    local.on('data', (chunk: Buffer) => this.#fromLocal(chunk));
    local.on('end', () => {
      const errno = pendingError(local);
      if (errno !== 0) {
        this.sendReset(errno);
        return;
      }
      this.#localEnded = true;
      this.#finish();
    });
    local.on('drain', () => link.resume());
    local.on('error', (error) => {
      const other = established || this.#sent !== 'open' ? undefined : redial?.(error);
      if (other === undefined) {
        this.sendReset(errnoOf(error));
        return;
      }
      replaced = true;
      this.#local = other;
      this.#attach(other);
    });
    local.on('close', (failed) => {
      if (replaced) return;
      // After an orderly end a held chunk is still owed to the peer.
      if (failed || !this.#localEnded || this.#received === 'open') {
        this.sendReset(constants.errno.ECONNABORTED);
      }
      this.#overWhenClosed();
    });
  }

  /** Tells the peer that this side is gone and lets go of the local connection with RST. */
  sendReset(errno: number): void {
    this.#dropHeld();
    const { link, clock } = this.#options;
    this.#early = undefined;
    this.#abortLocal();
    if (this.#released) return;
    if (this.#sent !== 'reset') {
      this.#sent = 'reset';
      link.send(FRAME.reset, encodeReset(this.#number, errno));
      if (this.#received === 'open') {
        this.#cancelDiscard = clock.after(DISCARD_MS, () => {
          link.destroy(new Error('the peer sends on after a reset'));
        });
      }
    }
    link.resume();
    this.#releaseWhenDone();
  }

  /** The link died under the flow. */
  linkClosed(): void {
    this.#noteUnreached();
    this.#dropHeld();
    this.#abortLocal();
    this.#release();
  }

  #abortLocal(): void {
    const local = this.#local;
    if (local.destroyed) return;
    // A connection that is not there yet has nobody to reset.
    if (local.connecting) local.destroy();
    else this.#options.reset(local);
  }

  #fromLocal(chunk: Buffer): void {
    if (this.#sent !== 'open') return;
    const { bucket, counters } = this.#options;
    counters.bytesIn += chunk.length;
    this.bytesIn += chunk.length;
    const granted = bucket.request(chunk.length, () => {
      const held = this.#held;
      this.#held = undefined;
      this.#cancelGrant = undefined;
      if (held === undefined) return;
      this.#forward(held);
      this.#readOn();
      this.#finish();
    });
    if (granted === true) {
      this.#forward(chunk);
      return;
    }
    this.#held = chunk;
    this.#cancelGrant = granted;
    this.#local.pause();
  }

  #forward(chunk: Buffer): void {
    const { link } = this.#options;
    for (let offset = 0; offset < chunk.length; offset += MAX_PAYLOAD) {
      if (!link.send(FRAME.data, chunk.subarray(offset, offset + MAX_PAYLOAD))) this.#linkFull = true;
    }
    if (this.#linkFull) this.#local.pause();
  }

  #readOn(): void {
    if (!this.#linkFull && this.#held === undefined && !this.#local.destroyed) this.#local.resume();
  }

  #finish(): void {
    if (!this.#localEnded || this.#held !== undefined || this.#sent !== 'open') return;
    this.#sent = 'finished';
    this.#options.link.send(FRAME.finish, encodeFlow(this.#number));
    this.#releaseWhenDone();
  }

  #frame(type: FrameType, payload: Buffer): void {
    switch (type) {
      case FRAME.data:
        this.#toLocal(payload);
        return;
      case FRAME.opened:
        this.#expectNumber(decodeFlow(payload));
        this.#opened = true;
        return;
      case FRAME.finish:
        this.#expectNumber(decodeFlow(payload));
        if (this.#received !== 'open') throw new FrameError('FINISH after the end of the direction');
        this.#received = 'finished';
        if (!this.#local.destroyed && !this.#local.connecting) this.#local.end();
        this.#releaseWhenDone();
        return;
      case FRAME.reset:
        this.#peerReset(payload);
        return;
      default:
        throw new FrameError(`a frame of type ${type} inside a flow`);
    }
  }

  #toLocal(payload: Buffer): void {
    if (this.#received !== 'open') throw new FrameError('DATA after the end of the direction');
    const { link, counters } = this.#options;
    const local = this.#local;
    if (this.#sent === 'reset' || local.destroyed) {
      this.#discarded += payload.length;
      if (this.#discarded > DISCARD_BYTES) throw new Error('the peer sends on after a reset');
      return;
    }
    if (local.connecting) {
      this.#early = payload;
      link.pause();
      return;
    }
    counters.bytesOut += payload.length;
    this.bytesOut += payload.length;
    if (!local.write(payload)) link.pause();
  }

  #peerReset(payload: Buffer): void {
    const { flow } = decodeReset(payload);
    // A RESET that crossed with the end of the flow before this one.
    if (flow < this.#number) return;
    this.#expectNumber(flow);
    if (this.#received === 'reset') throw new FrameError('a second RESET');
    this.#received = 'reset';
    this.#noteUnreached();
    this.#dropHeld();
    if (this.#sent === 'open') {
      this.#sent = 'reset';
      this.#options.link.send(FRAME.reset, encodeReset(this.#number, constants.errno.ECONNRESET));
    }
    this.#abortLocal();
    this.#releaseWhenDone();
  }

  #noteUnreached(): void {
    if (!this.#opened && this.#sent !== 'reset') this.#options.unreached?.();
  }

  #expectNumber(flow: number): void {
    if (flow !== this.#number) throw new FrameError(`a frame of flow ${flow} while ${this.#number} is open`);
  }

  #dropHeld(): void {
    this.#cancelGrant?.();
    this.#cancelGrant = undefined;
    this.#held = undefined;
  }

  #releaseWhenDone(): void {
    if (this.#sent !== 'open' && this.#received !== 'open') this.#release();
  }

  #release(): void {
    if (this.#released) return;
    this.#released = true;
    this.#cancelDiscard?.();
    const { link, released } = this.#options;
    link.clearHandlers();
    // The local connection has no say any more; what it still has to flush must not hold the link.
    link.resume();
    this.#local.removeAllListeners('drain');
    released();
    this.#overWhenClosed();
  }

  #overWhenClosed(): void {
    if (this.#over || !this.#released || !this.#local.destroyed) return;
    this.#over = true;
    this.#options.over();
  }
}
