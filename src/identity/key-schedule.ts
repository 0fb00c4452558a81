import { createPrivateKey, createPublicKey, diffieHellman, hkdfSync, type KeyObject } from 'node:crypto';

/**
 * The one key schedule. A handshake gives two hosts an X25519 secret; with the transcript as salt it becomes a pair secret,
 * and HKDF-SHA256 (RFC 5869) with one label a purpose gives every key that gossip, carriers and the tunnel use. Nothing here
 * keeps state; secrets live as long as the session that holds them.
 */

/** RFC 8410: PKCS#8 and SPKI wrappers of raw X25519 keys. */
const PKCS8_X25519 = Buffer.from('302e020100300506032b656e04220420', 'hex');
const SPKI_X25519 = Buffer.from('302a300506032b656e032100', 'hex');

/** One side's short-lived X25519 key: dropped once the pair secret is made, which is what forward secrecy rests on. */
export interface Ephemeral {
  /** 32 bytes, sent to the other side. */
  readonly publicKey: Uint8Array;
  /** 32 bytes (RFC 7748). Throws when the other side sent a point of low order. */
  agree(remotePublicKey: Uint8Array): Uint8Array;
}

/** Makes an ephemeral from 32 fresh random bytes. */
export function createEphemeral(seed: Uint8Array): Ephemeral {
  if (seed.length !== 32) throw new RangeError('an X25519 seed has 32 bytes');
  const privateKey: KeyObject = createPrivateKey({
    key: Buffer.concat([PKCS8_X25519, seed]),
    format: 'der',
    type: 'pkcs8',
  });
  const publicKey = createPublicKey(privateKey).export({ format: 'der', type: 'spki' }).subarray(-32);
  return {
    publicKey: new Uint8Array(publicKey),
    agree(remotePublicKey) {
      if (remotePublicKey.length !== 32) throw new RangeError('an X25519 public key has 32 bytes');
      const remote = createPublicKey({
        key: Buffer.concat([SPKI_X25519, remotePublicKey]),
        format: 'der',
        type: 'spki',
      });
      return new Uint8Array(diffieHellman({ privateKey, publicKey: remote }));
    },
  };
}

/** Which way bytes under a key travel. */
export type Direction = 'initiator' | 'responder';

export interface PairKeys {
  /** 16 bytes, hex. Public name of the session. */
  readonly sessionId: string;
  /** Seals the second half of the handshake itself; used once a direction. */
  readonly handshake: Readonly<Record<Direction, Uint8Array>>;
  /** AES-256-GCM keys of `/v1/peer/gossip`, by sender. */
  readonly gossip: Readonly<Record<Direction, Uint8Array>>;
  /** 32 bytes; the carrier derives its own directions from it. */
  readonly carrier: Uint8Array;
  /** Key of the IP tunnel by sender and epoch (0 to 2^32 - 1); any epoch follows from the pair secret. */
  tunnel(sender: Direction, epoch: number): Uint8Array;
  /** Overwrites every secret held here. Keys handed out before stay with their owners. */
  erase(): void;
}

const LABELS = {
  pair: 'arctic v1 pair',
  session: 'arctic v1 session',
  handshake: 'arctic v1 handshake',
  gossip: 'arctic v1 gossip',
  carrier: 'arctic v1 carrier',
  tunnel: 'arctic v1 tunnel',
} as const;

const expand = (
  secret: Uint8Array,
  salt: Uint8Array,
  info: Uint8Array | string,
  length: number,
): Uint8Array => new Uint8Array(hkdfSync('sha256', secret, salt, info, length));

const NO_SALT = new Uint8Array(0);

/** `label 00 sender 00 epoch`: the epoch is 32 bits, big-endian. */
function info(label: string, sender: Direction, epoch: number): Uint8Array {
  const suffix = Buffer.alloc(4);
  suffix.writeUInt32BE(epoch);
  return Buffer.concat([Buffer.from(`${label}\0${sender}\0`), suffix]);
}

/** Everything two hosts share after a handshake. `transcript` is the 32-byte hash both signed. */
export function derivePairKeys(shared: Uint8Array, transcript: Uint8Array): PairKeys {
  const secret = expand(shared, transcript, LABELS.pair, 32);
  const both = (label: string): Readonly<Record<Direction, Uint8Array>> => ({
    initiator: expand(secret, NO_SALT, info(label, 'initiator', 0), 32),
    responder: expand(secret, NO_SALT, info(label, 'responder', 0), 32),
  });
  const handshake = both(LABELS.handshake);
  const gossip = both(LABELS.gossip);
  const carrier = expand(secret, NO_SALT, LABELS.carrier, 32);
  let erased = false;
  return {
    sessionId: Buffer.from(expand(secret, NO_SALT, LABELS.session, 16)).toString('hex'),
    handshake,
    gossip,
    carrier,
    tunnel(sender, epoch) {
      if (erased) throw new Error('the session is retired; its tunnel keys are gone');
      return expand(secret, NO_SALT, info(LABELS.tunnel, sender, epoch), 32);
    },
    erase() {
      erased = true;
      secret.fill(0);
      for (const keys of [handshake, gossip]) {
        keys.initiator.fill(0);
        keys.responder.fill(0);
      }
    },
  };
}
