import { createHash, type KeyObject } from 'node:crypto';
import { decodeBase64 } from './base64.ts';
import { type Signer, verify } from './ed25519.ts';

/**
 * Signed notes (c2sp.org/signed-note): a text, an empty line, and one line a signature with the name of its key. Two kinds of
 * signature: that of the author, over the text, and that of a witness (c2sp.org/tlog-cosignature), over the text and the time
 * at which it was found consistent.
 */
export interface NoteSignature {
  readonly name: string;
  /** Four bytes that bind name, algorithm and key. */
  readonly keyId: Uint8Array;
  /** What follows the key id: 64 bytes of an author, 8 bytes of time and 64 of a witness. */
  readonly signature: Uint8Array;
}

export interface SignedNote {
  /** Ends with a newline. */
  readonly text: string;
  readonly signatures: readonly NoteSignature[];
}

/** Longest note taken from anybody, characters; a witness line has about 200. */
export const MAX_NOTE = 64 * 1024;

const ED25519 = 0x01;
const COSIGNATURE = 0x04;
const KEY_ID_BYTES = 4;
const LINE = /^— ([^\s+]+) ([A-Za-z0-9+/]+={0,2})$/u;

const keyIdOf = (name: string, algorithm: number, publicKey: Uint8Array): Uint8Array =>
  createHash('sha256')
    .update(`${name}\n`)
    .update(Uint8Array.of(algorithm))
    .update(publicKey)
    .digest()
    .subarray(0, KEY_ID_BYTES);

const same = (a: Uint8Array, b: Uint8Array): boolean => Buffer.compare(a, b) === 0;

/** Undefined when the text is no signed note. */
export function parseNote(note: string): SignedNote | undefined {
  const end = note.length > MAX_NOTE ? -1 : note.lastIndexOf('\n\n');
  if (end < 0 || !note.endsWith('\n')) return undefined;
  const text = note.slice(0, end + 1);
  const signatures: NoteSignature[] = [];
  for (const line of note.slice(end + 2, -1).split('\n')) {
    const [, name, encoded] = LINE.exec(line) ?? [];
    if (name === undefined || encoded === undefined) return undefined;
    const bytes = decodeBase64(encoded);
    if (bytes === undefined || bytes.length <= KEY_ID_BYTES) return undefined;
    signatures.push({
      name,
      keyId: bytes.subarray(0, KEY_ID_BYTES),
      signature: bytes.subarray(KEY_ID_BYTES),
    });
  }
  return { text, signatures };
}

const formatLine = ({ name, keyId, signature }: NoteSignature): string =>
  `— ${name} ${Buffer.concat([keyId, signature]).toString('base64')}\n`;

export const formatNote = ({ text, signatures }: SignedNote): string =>
  `${text}\n${signatures.map(formatLine).join('')}`;

/** Signs as the author. */
export const signNote = (text: string, name: string, signer: Signer): NoteSignature => ({
  name,
  keyId: keyIdOf(name, ED25519, signer.publicKey),
  signature: signer.sign(Buffer.from(text)),
});

/** True when the note bears the author's signature and it verifies. */
export const verifyAuthor = (
  note: SignedNote,
  name: string,
  key: { readonly raw: Uint8Array; readonly object: KeyObject },
): boolean => {
  const id = keyIdOf(name, ED25519, key.raw);
  const message = Buffer.from(note.text);
  return note.signatures.some(
    (one) => one.name === name && same(one.keyId, id) && verify(key.object, message, one.signature),
  );
};

const cosigned = (text: string, seconds: bigint): Uint8Array =>
  Buffer.from(`cosignature/v1\ntime ${seconds}\n${text}`);

/** Signs as a witness. `timeMs` since the epoch. */
export function cosign(text: string, name: string, signer: Signer, timeMs: number): NoteSignature {
  const seconds = BigInt(Math.floor(timeMs / 1_000));
  const time = Buffer.alloc(8);
  time.writeBigUInt64BE(seconds);
  return {
    name,
    keyId: keyIdOf(name, COSIGNATURE, signer.publicKey),
    signature: Buffer.concat([time, signer.sign(cosigned(text, seconds))]),
  };
}

/** When the witness signed, ms since the epoch; undefined when the line is not that witness's signature of the text. */
export function verifyCosignature(
  text: string,
  line: NoteSignature,
  name: string,
  key: { readonly raw: Uint8Array; readonly object: KeyObject },
): number | undefined {
  const bytes = Buffer.from(line.signature);
  if (line.name !== name || bytes.length !== 72 || !same(line.keyId, keyIdOf(name, COSIGNATURE, key.raw)))
    return undefined;
  const seconds = bytes.readBigUInt64BE();
  return verify(key.object, cosigned(text, seconds), bytes.subarray(8)) ? Number(seconds) * 1_000 : undefined;
}
