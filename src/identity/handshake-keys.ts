import { createHash } from 'node:crypto';
import { publicKeyObject, verify as verifyWithKey } from '../../events/ed25519.ts';
import type { Identity, Verify } from './contract.ts';
import type { Direction } from './key-schedule.ts';

/** What one side says about itself in a handshake. Every field is signed by both sides. */
export interface HandshakeParty {
  readonly peer_id: string;
  /** base64, 32 bytes: the Ed25519 identity. */
  readonly public_key: string;
  readonly customer_id: string;
  readonly license_id: string;
  readonly cluster_id: string;
  readonly name: string;
  readonly address: string;
  readonly endpoints: readonly string[];
  readonly version: string;
}

export interface HandshakeHello {
  /** Protocol versions the initiator speaks. */
  readonly protocols: readonly number[];
  /** `join`: an operator asks for admission; `member`: both should know each other already. */
  readonly intent: 'join' | 'member';
  /** Peer id the initiator expects to find; null when an operator gave only an address. */
  readonly to: string | null;
  /** base64, 32 random bytes. */
  readonly challenge: string;
  /** base64, 32 bytes. */
  readonly ephemeral: string;
  /** Sender's wall clock, milliseconds since the epoch. */
  readonly time: number;
  readonly from: HandshakeParty;
}

export interface HandshakeAnswer {
  readonly protocol: number;
  /** base64, 32 random bytes of the responder: no signature of the initiator can be prepared ahead. */
  readonly nonce: string;
  readonly ephemeral: string;
  readonly time: number;
  readonly from: HandshakeParty;
}

const partyFields = (party: HandshakeParty): string[] => [
  party.peer_id,
  party.public_key,
  party.customer_id,
  party.license_id,
  party.cluster_id,
  party.name,
  party.address,
  String(party.endpoints.length),
  ...party.endpoints,
  party.version,
];

/**
 * SHA-256 over every field of both messages, each with its length before it, so that no two conversations share a transcript.
 * Both sides sign it, and it salts the pair secret: a changed byte anywhere breaks signatures and keys alike.
 */
export function transcriptOf(hello: HandshakeHello, answer: HandshakeAnswer): Uint8Array {
  const hash = createHash('sha256');
  const fields = [
    'arctic v1 transcript',
    hello.protocols.join(','),
    hello.intent,
    hello.to ?? '',
    hello.challenge,
    hello.ephemeral,
    String(hello.time),
    ...partyFields(hello.from),
    String(answer.protocol),
    answer.nonce,
    answer.ephemeral,
    String(answer.time),
    ...partyFields(answer.from),
  ];
  const length = Buffer.alloc(4);
  for (const field of fields) {
    const bytes = Buffer.from(field, 'utf8');
    length.writeUInt32BE(bytes.length);
    hash.update(length).update(bytes);
  }
  return new Uint8Array(hash.digest());
}

/** Ed25519 by a raw 32-byte key; false, never a throw, for a key that is no acceptable point. */
export const verifyRaw: Verify = (publicKey, message, signature) => {
  try {
    return verifyWithKey(publicKeyObject(publicKey), message, signature);
  } catch {
    return false;
  }
};

/** The role is part of what is signed: an answer cannot be turned round and sent back as a confirmation. */
const signed = (role: Direction, transcript: Uint8Array): Uint8Array =>
  Buffer.concat([Buffer.from(`arctic v1 handshake\0${role}\0`), transcript]);

/** Ed25519 over the transcript, 64 bytes. */
export const signTranscript = (identity: Identity, role: Direction, transcript: Uint8Array): Uint8Array =>
  identity.sign(signed(role, transcript));

/** True when `publicKey` (32 bytes) signed this transcript in this role. */
export const verifyTranscript = (
  verify: Verify,
  publicKey: Uint8Array,
  role: Direction,
  transcript: Uint8Array,
  signature: Uint8Array,
): boolean => verify(publicKey, signed(role, transcript), signature);
