import type { PeerId } from '../../events/brand.ts';

/** The local peer's identity. The private key never leaves the object. */
export interface Identity {
  readonly peerId: PeerId;
  /** Ed25519, 32 bytes. */
  readonly publicKey: Uint8Array;
  /** 64 bytes. Callers separate domains: the message starts with a label (`arctic v1 handshake`, `arctic v1 event`...). */
  sign(message: Uint8Array): Uint8Array;
}

/** Ed25519 verification by a raw 32-byte key. */
export type Verify = (publicKey: Uint8Array, message: Uint8Array, signature: Uint8Array) => boolean;
