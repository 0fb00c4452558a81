import { createHash, timingSafeEqual } from 'node:crypto';
import type { Random } from '../../events/clock.ts';

/** What verification needs of a credential. */
export interface StoredSecret {
  readonly secret_hash: string;
  /** The secret before the last rotation, and until when (milliseconds since the epoch) it is still taken. */
  readonly previous: { readonly secret_hash: string; readonly valid_until_ms: number } | undefined;
}

/** 256 random bits leave nothing to guess, so one SHA-256 is the right hash and a slow one would only cost. */
const SECRET_BYTES = 32;

export const createSecret = (random: Random): string =>
  `sec_${Buffer.from(random.bytes(SECRET_BYTES)).toString('base64url')}`;

/** `sha256:` and base64url, as it is stored and replicated. */
export const hashSecret = (secret: string): string =>
  `sha256:${createHash('sha256').update(secret, 'utf8').digest('base64url')}`;

/**
 * Whether a secret is the credential's current one, or its previous one inside the grace period. Takes the same time
 * whatever the answer and also for a client that does not exist (`stored` undefined).
 */
export function secretMatches(secret: string, stored: StoredSecret | undefined, nowMs: number): boolean {
  const offered = hashSecret(secret);
  const current = constantTimeEqual(offered, stored?.secret_hash ?? NOBODY);
  const previous = constantTimeEqual(offered, stored?.previous?.secret_hash ?? NOBODY);
  const inGrace = stored?.previous !== undefined && nowMs < stored.previous.valid_until_ms;
  return current || (previous && inGrace);
}

/** No text hashes to this: it is not base64url. */
const NOBODY = `sha256:${'!'.repeat(43)}`;

/** Compares digests of both, so that neither content nor length shows in the time taken. */
export function constantTimeEqual(a: string, b: string): boolean {
  const digest = (text: string) => createHash('sha256').update(text, 'utf8').digest();
  return timingSafeEqual(digest(a), digest(b));
}
