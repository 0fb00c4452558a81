import { hash as digest, type KeyObject } from 'node:crypto';
import type { Hlc, PeerId } from './brand.ts';
import { canonicalJson, eventPreimage, type HashedFields } from './canonical.ts';
import { type Signer, signatureBytes, verify } from './ed25519.ts';
import type { AnyEvent, Stream } from './envelope.ts';

/** `prev_hash` of the first event of every chain. */
export const GENESIS_HASH = '0'.repeat(64);

/** Keeps a signature over a transaction from standing for anything else this key signs. */
const TRANSACTION_DOMAIN = Buffer.from('arctic/event-transaction/v1\0', 'latin1');
const HASH_BYTES = 32;

/** The end of one chain: what the next event of it must link to. */
export interface ChainHead {
  readonly origin: PeerId;
  readonly stream: Stream;
  /** 0 for an empty chain. */
  readonly seq: number;
  readonly hash: string;
  readonly hlc: Hlc;
}

/** SHA-256 (hex) of an event's canonical JSON (`eventPreimage`). */
export const hashPreimage = (preimage: string): string => digest('sha256', preimage, 'hex');

/** The hash an event must have by its content. */
export const hashOf = (event: AnyEvent): string =>
  hashPreimage(eventPreimage(event, canonicalJson(event.data)));

/** Base64 signature over the last hash of a transaction; by the chain it covers every event before it. */
export const signTransaction = (signer: Signer, lastHash: string): string =>
  // Copied, because to ask so small an array for its buffer has one allocated for it.
  Buffer.from(signer.sign(transactionMessage(lastHash))).toString('base64');

export const verifyTransaction = (key: KeyObject, lastHash: string, signature: string): boolean =>
  verify(key, transactionMessage(lastHash), signatureBytes(signature));

/** The signed bytes, for those who verify with another implementation. */
export function transactionMessage(lastHash: string): Uint8Array {
  // Out of the pool, which costs a third of an array of its own.
  const message = Buffer.allocUnsafe(TRANSACTION_DOMAIN.length + HASH_BYTES).fill(0);
  TRANSACTION_DOMAIN.copy(message);
  message.write(lastHash, TRANSACTION_DOMAIN.length, 'hex');
  return message;
}

/** What is wrong with an event, in words that follow "event N of ORIGIN: "; undefined when it links. */
export function linkFault(head: ChainHead, event: Omit<HashedFields, 'actor'>): string | undefined {
  if (event.origin !== head.origin || event.stream !== head.stream) return 'it belongs to another chain';
  if (event.seq !== head.seq + 1) return `its sequence number is ${event.seq} where ${head.seq + 1} is due`;
  if (event.prev_hash !== head.hash) return 'its prev_hash is not the hash of the event before it';
  if (event.hlc <= head.hlc) return 'its clock is not after that of the event before it';
  return undefined;
}

export interface ChainFault {
  readonly seq: number;
  readonly reason: string;
}

/**
 * Verifies a run of events of one chain that starts right after `head`: content, links, and every signature there is.
 * Returns how many leading events are covered by a signature; the rest is an unfinished transaction.
 */
export function verifyRun(
  head: ChainHead,
  key: KeyObject,
  events: readonly AnyEvent[],
): { readonly signed: number } | ChainFault {
  let at: ChainHead = head;
  let signed = 0;
  for (const [index, event] of events.entries()) {
    const fault = linkFault(at, event) ?? contentFault(event) ?? signatureFault(event, key);
    if (fault !== undefined) return { seq: event.seq, reason: fault };
    if (event.signature !== null) signed = index + 1;
    at = event;
  }
  return { signed };
}

function contentFault(event: AnyEvent): string | undefined {
  return hashOf(event) === event.hash ? undefined : 'its hash does not match its content';
}

function signatureFault(event: AnyEvent, key: KeyObject): string | undefined {
  if (event.signature === null || verifyTransaction(key, event.hash, event.signature)) return undefined;
  return "its signature is not the origin's";
}
