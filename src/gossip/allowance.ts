import type { MessageAllowance } from './contract.ts';
import { HANDSHAKE_PATH } from './messages.ts';
import { MAX_BODY, MAX_HANDSHAKE } from './parameters.ts';
import { SEALED_MINIMUM, sealedHeader } from './seal.ts';
import type { Sessions } from './sessions.ts';

/**
 * Only who shows the id of a session of ours, which only its two ends and the path between them have seen, may send a long
 * message. What is cut off is refused as it would have been in full: the beginning tells.
 */
export function allowanceOf(
  sessions: Pick<Sessions, 'find'>,
  path: string,
  head: Uint8Array,
): MessageAllowance {
  if (path === HANDSHAKE_PATH) return { bytes: MAX_HANDSHAKE, session: undefined };
  const session = sealedHeader(head)?.sessionId;
  if (session === undefined || sessions.find(session) === undefined)
    return { bytes: SEALED_MINIMUM, session: undefined };
  // One more than may be, so that what is too long shows.
  return { bytes: MAX_BODY + 1, session };
}
