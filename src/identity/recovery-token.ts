import type { Random } from '../../events/clock.ts';
import { writePrivateFile } from './private-file.ts';
import { constantTimeEqual } from './secrets.ts';

/** The break-glass token of one run of the agent (SPEC section 13). The text itself is only in its file. */
export interface RecoveryToken {
  readonly path: string;
  /** Constant time. */
  matches(candidate: string): boolean;
}

const TOKEN_BYTES = 32;

/** Writes a new token over the last one (0600, atomically), so that a token seen once is worth one run of the agent. */
export function createRecoveryToken(path: string, random: Random): RecoveryToken {
  const token = Buffer.from(random.bytes(TOKEN_BYTES)).toString('base64url');
  writePrivateFile(path, `${token}\n`, { replace: true });
  return { path, matches: (candidate) => constantTimeEqual(candidate.trim(), token) };
}
