import type { PeerId } from '../../../events/brand.ts';
import type { TransportFault } from '../failures.ts';
import type { Reply, Request } from '../messages.ts';
import type { Session } from '../sessions.ts';

export type CallResult =
  | { readonly ok: true; readonly reply: Reply; readonly session: Session; readonly skew: number }
  /** `no_session`: there is none, or the peer no longer knows it; a handshake is due. */
  | {
      readonly ok: false;
      readonly fault: TransportFault | 'no_session' | 'invalid';
      readonly session?: Session;
    };

export interface Opened {
  readonly session: Session;
  readonly request: Request;
  /** The sender's wall clock minus ours, one way, ms. */
  readonly skew: number;
  /** Throws RangeError when the reply is too large to travel. */
  answer(reply: Reply): Uint8Array;
}

/** Sealed requests under the sessions: what leaves is numbered, what arrives is opened once. */
export interface Channel {
  call(
    peer: PeerId,
    endpoints: readonly string[],
    request: Request,
    timeoutMs: number,
    done: (result: CallResult) => void,
  ): void;
  /** `unknown`: no such session (or the sender's clock jumped): the sender should shake hands. `refused`: forged or replayed. */
  open(method: string, path: string, body: Uint8Array): Opened | 'unknown' | 'refused';
}
