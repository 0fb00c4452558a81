/**
 * The key schedule of a carrier link and the sealing of its frames (`ops/docs/carrier-format.md`).
 *
 * Both ends contribute a fresh nonce, so no two links ever share a key, and each direction has its own; with a
 * counter as nonce a (key, nonce) pair cannot occur twice. Whether the dialer is the initiator of the session goes
 * into the derivation: without it a link could be reflected back to its own dialer.
 */
import { createCipheriv, createDecipheriv, createHash, hkdfSync } from 'node:crypto';
import type { CarrierSession } from './contract.ts';
import { encodeHeader, FRAME, FrameError, type FrameType, HEADER_LENGTH, TAG_LENGTH } from './frames.ts';

const MAGIC = Buffer.from('ARC1', 'ascii');
/** Of a dialer that has AEGIS-128L, too; this side has AES-256-GCM only, and answers with MAGIC. */
const MAGIC_AEGIS = Buffer.from('ARC2', 'ascii');
export const NONCE_LENGTH = 32;
const SESSION_ID_LENGTH = 16;
export const HELLO_LENGTH = MAGIC.length + SESSION_ID_LENGTH + NONCE_LENGTH;
/** Magic and nonce; the acceptor's CONFIRM frame follows at once. */
export const WELCOME_LENGTH = MAGIC.length + NONCE_LENGTH;

/** No link seals more frames than this under one key; RFC 8446 5.5 allows AES-GCM about as many bytes. */
const HARD_LIMIT = 2 ** 22;

/** First bytes of the dialer: magic 4 | session id 16 | nonce 32. */
export function encodeHello(sessionId: string, nonce: Uint8Array, offersAegis = false): Buffer {
  return Buffer.concat([offersAegis ? MAGIC_AEGIS : MAGIC, Buffer.from(sessionId, 'hex'), nonce]);
}

export function decodeHello(bytes: Buffer): {
  readonly sessionId: string;
  readonly nonce: Buffer;
  readonly offersAegis: boolean;
} {
  const magic = bytes.subarray(0, MAGIC.length);
  const offersAegis = magic.equals(MAGIC_AEGIS);
  if (bytes.length !== HELLO_LENGTH || !(offersAegis || magic.equals(MAGIC))) {
    throw new FrameError('this is not a carrier');
  }
  const idEnd = MAGIC.length + SESSION_ID_LENGTH;
  return {
    sessionId: bytes.toString('hex', MAGIC.length, idEnd),
    nonce: Buffer.from(bytes.subarray(idEnd)),
    offersAegis,
  };
}

/** First bytes of the acceptor: magic 4 | nonce 32. */
export function encodeWelcome(nonce: Uint8Array): Buffer {
  return Buffer.concat([MAGIC, nonce]);
}

export function decodeWelcome(bytes: Buffer): Buffer {
  if (bytes.length !== WELCOME_LENGTH || !bytes.subarray(0, MAGIC.length).equals(MAGIC)) {
    throw new FrameError('the answer is not a carrier');
  }
  return Buffer.from(bytes.subarray(MAGIC.length));
}

export interface LinkSecrets {
  readonly toAcceptor: Buffer;
  readonly toDialer: Buffer;
  /** SHA-256 of HELLO and WELCOME; each side seals it in its CONFIRM frame. */
  readonly transcript: Buffer;
}

/** HKDF-SHA256(session key, salt = both nonces, info = label | dialer is initiator | session id). */
export function deriveSecrets(
  session: Pick<CarrierSession, 'sessionId' | 'key'>,
  dialerIsInitiator: boolean,
  dialerNonce: Uint8Array,
  acceptorNonce: Uint8Array,
  offersAegis = false,
): LinkSecrets {
  const info = Buffer.concat([
    Buffer.from('arctic v1 carrier link', 'ascii'),
    Buffer.from([dialerIsInitiator ? 1 : 0]),
    Buffer.from(session.sessionId, 'hex'),
  ]);
  const salt = Buffer.concat([dialerNonce, acceptorNonce]);
  const secrets = Buffer.from(hkdfSync('sha256', session.key, salt, info, 64));
  const transcript = createHash('sha256')
    .update(encodeHello(session.sessionId, dialerNonce, offersAegis))
    .update(encodeWelcome(acceptorNonce))
    .digest();
  return { toAcceptor: secrets.subarray(0, 32), toDialer: secrets.subarray(32), transcript };
}

/** One direction's state: key, IV and counter, and the secret the next ones come from. */
class Direction {
  #secret: Buffer;
  #key: Buffer;
  #iv: Buffer;
  #counter = 0;

  constructor(secret: Buffer) {
    this.#secret = secret;
    this.#key = expand(secret, 'arctic v1 carrier key', 32);
    this.#iv = expand(secret, 'arctic v1 carrier iv', 12);
  }

  get counter(): number {
    return this.#counter;
  }

  get key(): Buffer {
    return this.#key;
  }

  /** IV xor counter, and the counter moves on: a nonce is handed out once. */
  nextNonce(): Buffer {
    if (this.#counter >= HARD_LIMIT) throw new FrameError('the key of this link is used up');
    const nonce = Buffer.from(this.#iv);
    const low = nonce.readUInt32BE(8) ^ this.#counter;
    nonce.writeUInt32BE(low >>> 0, 8);
    this.#counter += 1;
    return nonce;
  }

  /** The old secret cannot be had from the new one. */
  rekey(): void {
    const next = expand(this.#secret, 'arctic v1 carrier next', 32);
    this.#secret.fill(0);
    this.#key.fill(0);
    this.#secret = next;
    this.#key = expand(next, 'arctic v1 carrier key', 32);
    this.#iv = expand(next, 'arctic v1 carrier iv', 12);
    this.#counter = 0;
  }
}

export interface Sealer {
  /** A whole frame, ready to send. A REKEY frame is sealed under the old key; the next frame uses the new one. */
  seal(type: FrameType, payload: Uint8Array): Buffer;
  /** Frames sealed under the key in force. */
  sealed(): number;
}

export interface Opener {
  /** The payload. Throws FrameError when the tag does not fit (compared in constant time by OpenSSL). */
  open(type: FrameType, header: Buffer, sealed: Buffer): Buffer;
}

export function createSealer(secret: Buffer): Sealer {
  const direction = new Direction(Buffer.from(secret));
  return {
    seal(type, payload) {
      const header = encodeHeader(type, payload.length);
      const cipher = createCipheriv('aes-256-gcm', direction.key, direction.nextNonce(), {
        authTagLength: TAG_LENGTH,
      });
      cipher.setAAD(header);
      const body = cipher.update(payload);
      cipher.final();
      if (type === FRAME.rekey) direction.rekey();
      return Buffer.concat([header, body, cipher.getAuthTag()], HEADER_LENGTH + body.length + TAG_LENGTH);
    },
    sealed: () => direction.counter,
  };
}

export function createOpener(secret: Buffer): Opener {
  const direction = new Direction(Buffer.from(secret));
  return {
    open(type, header, sealed) {
      const end = sealed.length - TAG_LENGTH;
      const decipher = createDecipheriv('aes-256-gcm', direction.key, direction.nextNonce(), {
        authTagLength: TAG_LENGTH,
      });
      decipher.setAAD(header);
      decipher.setAuthTag(sealed.subarray(end));
      const payload = decipher.update(sealed.subarray(0, end));
      try {
        decipher.final();
      } catch {
        throw new FrameError('a frame does not authenticate');
      }
      if (type === FRAME.rekey) direction.rekey();
      return payload;
    },
  };
}

function expand(secret: Buffer, label: string, length: number): Buffer {
  return Buffer.from(hkdfSync('sha256', secret, Buffer.alloc(0), label, length));
}
