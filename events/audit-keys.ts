import type { KeyObject } from 'node:crypto';
import { type EventBody, KEY_TYPES } from './audit-format.ts';
import { decodeBase64 } from './base64.ts';
import type { PeerId } from './brand.ts';
import { isPublicKey, publicKeyObject, verify, verifyPortable } from './ed25519.ts';

/**
 * Why a key is believed. `pinned`: it is a root key the verifying person gave, or, without one, the exporter's own. `admitted`:
 * a member whose key is believed stated it in `peer.admitted`. `exporter`: the exporter, whose key is believed, sealed an
 * export that names it, which is its word for what its log has pinned. `unvouched`: only the file says so.
 */
export type KeyTrust = 'pinned' | 'admitted' | 'exporter' | 'unvouched';

export interface KeyReport {
  readonly origin: PeerId;
  readonly publicKey: string;
  readonly trust: KeyTrust;
  /** Members that stated another key for it. */
  readonly contradictedBy: readonly PeerId[];
}

export interface AuditKeys {
  /** Takes what an event says about keys; its own signature is for others to check. */
  note(event: EventBody): void;
  verify(origin: PeerId, message: Uint8Array, signature: Uint8Array): boolean | 'no-key';
  /** `sealedBy`: who signed the whole export, where that signature is right. */
  report(sealedBy: PeerId | undefined): readonly KeyReport[];
}

/** `stated`: the header's keys by origin. `roots`: keys believed from the start. All base64. */
export function createAuditKeys(
  stated: Readonly<Record<PeerId, string>>,
  roots: readonly string[],
): AuditKeys {
  const keys = new Map<PeerId, UsableKey>();
  for (const [origin, text] of Object.entries(stated)) keys.set(origin as PeerId, usable(String(text)));
  /** `about -> by -> key`. As many as there are members, not events. */
  const statements = new Map<PeerId, Map<PeerId, string>>();
  return {
    note({ type, origin, data }) {
      if (!KEY_TYPES.has(type)) return;
      const { peer_id: about, public_key: key } = data;
      if (typeof about !== 'string' || typeof key !== 'string') return;
      let by = statements.get(about as PeerId);
      if (by === undefined) {
        by = new Map();
        statements.set(about as PeerId, by);
      }
      by.set(origin, key);
    },
    verify(origin, message, signature) {
      const key = keys.get(origin);
      if (key === undefined || key.raw === undefined) return 'no-key';
      return key.object === undefined
        ? verifyPortable(key.raw, message, signature)
        : verify(key.object, message, signature);
    },
    report(sealedBy) {
      const trust = new Map<PeerId, KeyTrust>();
      for (const [origin, { text }] of keys) if (roots.includes(text)) trust.set(origin, 'pinned');
      for (let grown = true; grown; ) {
        grown = false;
        for (const [origin, { text }] of keys) {
          if (trust.has(origin)) continue;
          const vouched = [...(statements.get(origin) ?? [])].some(
            ([by, key]) => key === text && trust.has(by),
          );
          if (!vouched) continue;
          trust.set(origin, 'admitted');
          grown = true;
        }
      }
      return [...keys].map(([origin, { text }]) => ({
        origin,
        publicKey: text,
        trust:
          trust.get(origin) ?? (sealedBy !== undefined && trust.has(sealedBy) ? 'exporter' : 'unvouched'),
        contradictedBy: [...(statements.get(origin) ?? [])]
          .filter(([, key]) => key !== text)
          .map(([by]) => by),
      }));
    },
  };
}

interface UsableKey {
  readonly text: string;
  /** Undefined for what is no acceptable key. */
  readonly raw: Uint8Array | undefined;
  /** Undefined where OpenSSL is restricted and knows no Ed25519: then the portable implementation verifies. */
  readonly object: KeyObject | undefined;
}

function usable(text: string): UsableKey {
  const raw = decodeBase64(text);
  if (raw === undefined || !isPublicKey(raw)) return { text, raw: undefined, object: undefined };
  try {
    return { text, raw, object: publicKeyObject(raw) };
  } catch {
    return { text, raw, object: undefined };
  }
}
