import { createCipheriv, createDecipheriv } from 'node:crypto';
import { deflateRawSync, inflateRawSync } from 'node:zlib';
import { DEFLATE_FROM, MAX_BODY, MAX_MESSAGE } from './parameters.ts';

/**
 * One sealed body: `AG01 | session id 16 | counter 8 | time 8 | AES-256-GCM ciphertext | tag 16`, integers big-endian.
 * The nonce is the counter, which never repeats under a direction's key; header, method, path and role are authenticated.
 * An answer also authenticates the counter of its request, so it fits no other.
 */
const MAGIC = Buffer.from('AG01');
const HEADER = MAGIC.length + 16 + 8 + 8;
const TAG = 16;
/** The shortest sealed body, bytes. */
export const SEALED_MINIMUM = HEADER + 1 + TAG;

export interface SealContext {
  readonly role: 'request' | 'answer';
  readonly method: string;
  readonly path: string;
  /** Counter of the request that is answered; 0 in a request. */
  readonly inReplyTo: number;
}

export interface SealedHeader {
  readonly sessionId: string;
  readonly counter: number;
  /** Sender's wall clock, milliseconds since the epoch. */
  readonly time: number;
}

const nonceOf = (counter: number): Buffer => {
  const nonce = Buffer.alloc(12);
  nonce.writeBigUInt64BE(BigInt(counter), 4);
  return nonce;
};

const authenticated = (context: SealContext, header: Uint8Array): Buffer =>
  Buffer.concat([
    Buffer.from(
      `arctic v1 sealed\0${context.role}\0${context.method}\0${context.path}\0${context.inReplyTo}\0`,
    ),
    header,
  ]);

/** Encrypts `value` as JSON, deflated when that pays. Throws RangeError when it passes MAX_MESSAGE or the result MAX_BODY. */
export function seal(
  key: Uint8Array,
  header: SealedHeader,
  context: SealContext,
  value: unknown,
): Uint8Array {
  const json = Buffer.from(JSON.stringify(value), 'utf8');
  if (json.length > MAX_MESSAGE)
    throw new RangeError(`a message of ${json.length} bytes passes ${MAX_MESSAGE}`);
  const packed =
    json.length >= DEFLATE_FROM
      ? Buffer.concat([Buffer.of(1), deflateRawSync(json, { level: 1 })])
      : Buffer.concat([Buffer.of(0), json]);
  const head = Buffer.alloc(HEADER);
  MAGIC.copy(head);
  head.write(header.sessionId, MAGIC.length, 'hex');
  head.writeBigUInt64BE(BigInt(header.counter), MAGIC.length + 16);
  head.writeBigUInt64BE(BigInt(Math.max(0, Math.trunc(header.time))), MAGIC.length + 24);
  const cipher = createCipheriv('aes-256-gcm', key, nonceOf(header.counter));
  cipher.setAAD(authenticated(context, head));
  const body = Buffer.concat([head, cipher.update(packed), cipher.final(), cipher.getAuthTag()]);
  if (body.length > MAX_BODY)
    throw new RangeError(`a sealed message of ${body.length} bytes passes ${MAX_BODY}`);
  return body;
}

/** Reads the public part, which says whose key opens the rest. Undefined when this is no sealed body. */
export function sealedHeader(body: Uint8Array): SealedHeader | undefined {
  if (body.length < SEALED_MINIMUM || body.length > MAX_BODY) return undefined;
  const view = Buffer.from(body.buffer, body.byteOffset, body.length);
  if (!view.subarray(0, MAGIC.length).equals(MAGIC)) return undefined;
  const counter = view.readBigUInt64BE(MAGIC.length + 16);
  const time = view.readBigUInt64BE(MAGIC.length + 24);
  if (counter > BigInt(Number.MAX_SAFE_INTEGER) || time > BigInt(Number.MAX_SAFE_INTEGER)) return undefined;
  return {
    sessionId: view.toString('hex', MAGIC.length, MAGIC.length + 16),
    counter: Number(counter),
    time: Number(time),
  };
}

/** Opens a sealed body whose header was read; undefined for anything forged, truncated, oversized or not JSON. */
export function open(
  key: Uint8Array,
  header: SealedHeader,
  context: SealContext,
  body: Uint8Array,
): { readonly value: unknown } | undefined {
  const view = Buffer.from(body.buffer, body.byteOffset, body.length);
  try {
    const decipher = createDecipheriv('aes-256-gcm', key, nonceOf(header.counter));
    decipher.setAAD(authenticated(context, view.subarray(0, HEADER)));
    decipher.setAuthTag(view.subarray(view.length - TAG));
    const packed = Buffer.concat([
      decipher.update(view.subarray(HEADER, view.length - TAG)),
      decipher.final(),
    ]);
    const content = packed.subarray(1);
    const json = packed[0] === 1 ? inflateRawSync(content, { maxOutputLength: MAX_MESSAGE }) : content;
    const value: unknown = JSON.parse(json.toString('utf8'));
    return { value };
  } catch {
    return undefined;
  }
}
