/**
 * The tunnel's datagrams, written down a second time from their description alone (native/tunnel/datagram.h): the oracle for the
 * native code. Slow and plain.
 */
import { createCipheriv, createDecipheriv } from 'node:crypto';

export const AEADS = { 1: 'aes-256-gcm', 2: 'chacha20-poly1305' } as const;
const HEADER = 16;
const TAG = 16;

export interface Opened {
  readonly aead: 1 | 2;
  readonly index: number;
  readonly counter: bigint;
  readonly text: Buffer;
}

export const nonceOf = (counter: bigint): Buffer => {
  const nonce = Buffer.alloc(12);
  nonce.writeBigUInt64LE(counter, 4);
  return nonce;
};

export function seal(aead: 1 | 2, key: Uint8Array, index: number, counter: bigint, text: Uint8Array): Buffer {
  const header = Buffer.alloc(HEADER);
  header.writeUInt8(aead, 0);
  header.writeUInt8(1, 1);
  header.writeUInt32LE(index, 4);
  header.writeBigUInt64LE(counter, 8);
  const { body, tag } = sealBody(aead, key, nonceOf(counter), header, text);
  return Buffer.concat([header, body, tag]);
}

/** The nonce is 12 bytes. */
export function sealBody(
  aead: 1 | 2,
  key: Uint8Array,
  nonce: Uint8Array,
  additional: Uint8Array,
  text: Uint8Array,
): { readonly body: Buffer; readonly tag: Buffer } {
  const options = { authTagLength: TAG };
  const cipher =
    aead === 1
      ? createCipheriv(AEADS[1], key, nonce, options)
      : createCipheriv(AEADS[2], key, nonce, options);
  cipher.setAAD(additional, { plaintextLength: text.length });
  const body = Buffer.concat([cipher.update(text), cipher.final()]);
  return { body, tag: cipher.getAuthTag() };
}

/** Undefined for what is no datagram of ours or does not open. */
export function open(key: Uint8Array, datagram: Buffer): Opened | undefined {
  const aead = datagram[0];
  if (datagram.length < HEADER + TAG || (aead !== 1 && aead !== 2)) return undefined;
  if (datagram[1] !== 1 || datagram.readUInt16LE(2) !== 0) return undefined;
  const counter = datagram.readBigUInt64LE(8);
  const options = { authTagLength: TAG };
  const decipher =
    aead === 1
      ? createDecipheriv(AEADS[1], key, nonceOf(counter), options)
      : createDecipheriv(AEADS[2], key, nonceOf(counter), options);
  const body = datagram.subarray(HEADER, datagram.length - TAG);
  decipher.setAAD(datagram.subarray(0, HEADER), { plaintextLength: body.length });
  decipher.setAuthTag(datagram.subarray(datagram.length - TAG));
  try {
    const text = Buffer.concat([decipher.update(body), decipher.final()]);
    return { aead, index: datagram.readUInt32LE(4), counter, text };
  } catch {
    return undefined;
  }
}

export interface TunnelRecord {
  readonly needsChecksum: boolean;
  readonly packet: Buffer;
}

export function encodeRecords(records: readonly TunnelRecord[]): Buffer {
  return Buffer.concat(
    records.flatMap(({ needsChecksum, packet }) => {
      const header = Buffer.alloc(4);
      header.writeUInt16LE(packet.length, 0);
      header.writeUInt8(needsChecksum ? 1 : 0, 2);
      return [header, packet];
    }),
  );
}

/** Throws for a record that is cut short or has bits nobody defined. */
export function decodeRecords(text: Buffer): readonly TunnelRecord[] {
  const records: TunnelRecord[] = [];
  for (let at = 0; at < text.length; ) {
    const length = text.readUInt16LE(at);
    const flags = text.readUInt8(at + 2);
    if ((flags & ~1) !== 0 || text[at + 3] !== 0) throw new RangeError(`flags ${flags} at ${at}`);
    if (at + 4 + length > text.length) throw new RangeError(`a record of ${length} bytes at ${at}`);
    records.push({ needsChecksum: flags === 1, packet: text.subarray(at + 4, at + 4 + length) });
    at += 4 + length;
  }
  return records;
}
