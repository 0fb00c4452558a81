import {
  createPrivateKey,
  createPublicKey,
  type KeyObject,
  sign as nodeSign,
  verify as nodeVerify,
} from 'node:crypto';
import {
  convertPublicKeyToX25519,
  generateKeyPairFromSeed,
  sign as portableSign,
  verify as portableVerify,
} from '@stablelib/ed25519';
import { decodeBase64 } from './base64.ts';

/**
 * Ed25519 (RFC 8032) by two implementations: node:crypto wherever events or requests are signed or verified (about a
 * hundred times faster), @stablelib/ed25519 for raw keys, licenses and offline verification, which must also run where
 * the host's OpenSSL is restricted. Raw keys are 32 bytes, signatures 64.
 */
export interface Signer {
  /** Raw, 32 bytes. */
  readonly publicKey: Uint8Array;
  sign(message: Uint8Array): Uint8Array;
}

export const SEED_BYTES = 32;
export const PUBLIC_KEY_BYTES = 32;
export const SIGNATURE_BYTES = 64;

/** DER around a raw key (RFC 8410): PKCS #8 for the seed, SubjectPublicKeyInfo for the public key. */
const PKCS8_PREFIX = Buffer.from('302e020100300506032b657004220420', 'hex');
const SPKI_PREFIX = Buffer.from('302a300506032b6570032100', 'hex');

/** Public key of a 32-byte seed. */
export const publicKeyOfSeed = (seed: Uint8Array): Uint8Array =>
  generateKeyPairFromSeed(expect(seed, SEED_BYTES, 'seed')).publicKey;

export const privateKeyOfSeed = (seed: Uint8Array): KeyObject =>
  createPrivateKey({
    key: Buffer.concat([PKCS8_PREFIX, expect(seed, SEED_BYTES, 'seed')]),
    format: 'der',
    type: 'pkcs8',
  });

/** The raw seed of an Ed25519 private key; throws for any other kind of key. */
export function seedOfPrivateKey(key: KeyObject): Uint8Array {
  if (key.type !== 'private' || key.asymmetricKeyType !== 'ed25519')
    throw new TypeError('not an Ed25519 private key');
  return new Uint8Array(key.export({ format: 'der', type: 'pkcs8' }).subarray(PKCS8_PREFIX.length));
}

/** Throws for a key that is no acceptable point; see `isPublicKey`. */
export function publicKeyObject(raw: Uint8Array): KeyObject {
  if (!isPublicKey(raw)) throw new TypeError('not an acceptable Ed25519 public key');
  return createPublicKey({ key: Buffer.concat([SPKI_PREFIX, raw]), format: 'der', type: 'spki' });
}

/** The raw 32 bytes of an Ed25519 key (of a private key: of its public half). */
export function rawPublicKey(key: KeyObject): Uint8Array {
  if (key.asymmetricKeyType !== 'ed25519') throw new TypeError('not an Ed25519 key');
  const publicKey = key.type === 'private' ? createPublicKey(key) : key;
  return new Uint8Array(publicKey.export({ format: 'der', type: 'spki' }).subarray(SPKI_PREFIX.length));
}

export function createSigner(seed: Uint8Array): Signer {
  const key = privateKeyOfSeed(seed);
  return {
    publicKey: publicKeyOfSeed(seed),
    sign: (message) => new Uint8Array(nodeSign(null, message, key)),
  };
}

/** Verifies with node:crypto. Never throws: a malformed signature is a wrong one. */
export const verify = (key: KeyObject, message: Uint8Array, signature: Uint8Array): boolean =>
  signature.length === SIGNATURE_BYTES && nodeVerify(null, message, key, signature);

/** Signs with @stablelib/ed25519: about 150 a second, with no need of OpenSSL. */
export const signPortable = (seed: Uint8Array, message: Uint8Array): Uint8Array =>
  portableSign(generateKeyPairFromSeed(expect(seed, SEED_BYTES, 'seed')).secretKey, message);

/** The bytes of a signature in base64; none for what is not base64 as `decodeBase64` wants it, which verifies as no signature. */
export const signatureBytes = (text: string): Uint8Array => decodeBase64(text) ?? Buffer.alloc(0);

/** Verifies with @stablelib/ed25519: about 100 a second, with no need of OpenSSL. */
export const verifyPortable = (raw: Uint8Array, message: Uint8Array, signature: Uint8Array): boolean =>
  signature.length === SIGNATURE_BYTES &&
  isPublicKey(raw) &&
  // @stablelib reduces S modulo L; RFC 8032 5.1.7 and OpenSSL refuse an S that is not below L.
  isCanonicalScalar(signature.subarray(32)) &&
  portableVerify(raw, message, signature);

/**
 * y coordinates of the points whose order divides 8, canonical encoding, sign bit cleared. Under such a key one
 * signature verifies for many messages, so it proves nothing about who signed.
 */
const SMALL_ORDER = new Set([
  '0000000000000000000000000000000000000000000000000000000000000000',
  '0100000000000000000000000000000000000000000000000000000000000000',
  'ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f',
  '26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05',
  'c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a',
]);
/** p = 2^255 - 19 and L = 2^252 + 27742317777372353535851937790883648493, little-endian. */
const P = Buffer.from('edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f', 'hex');
const L = Buffer.from('edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010', 'hex');

/** A point of the curve in its one canonical encoding, and not of small order. */
export function isPublicKey(raw: Uint8Array): boolean {
  if (raw.length !== PUBLIC_KEY_BYTES) return false;
  const y = Buffer.from(raw);
  y[31] = (y[31] ?? 0) & 0x7f;
  if (!below(y, P) || SMALL_ORDER.has(y.toString('hex'))) return false;
  try {
    convertPublicKeyToX25519(raw);
    return true;
  } catch {
    return false;
  }
}

const isCanonicalScalar = (s: Uint8Array): boolean => below(s, L);

/** a < b, both little-endian and of one length. */
function below(a: Uint8Array, b: Uint8Array): boolean {
  for (let i = b.length - 1; i >= 0; i -= 1) {
    const x = a[i] ?? 0;
    const y = b[i] ?? 0;
    if (x !== y) return x < y;
  }
  return false;
}

function expect(bytes: Uint8Array, length: number, what: string): Uint8Array {
  if (bytes.length !== length)
    throw new TypeError(`an Ed25519 ${what} has ${length} bytes, not ${bytes.length}`);
  return bytes;
}
