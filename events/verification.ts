import type { EventId, PeerId } from './brand.ts';
import type { ChainHead } from './chain.ts';
import type { Stream } from './stream.ts';

/** What checking a log found; apart from the code that checks, which needs the database. */
export interface LogFault {
  /** Undefined when the fault is in the file and not in one event. */
  readonly position: number | undefined;
  readonly id: EventId | undefined;
  readonly origin: PeerId | undefined;
  readonly stream: Stream | undefined;
  readonly seq: number | undefined;
  readonly reason: string;
}

export interface Verification {
  /** The first fault by position; undefined when the log verifies. */
  readonly fault: LogFault | undefined;
  readonly events: number;
  readonly transactions: number;
  readonly chains: readonly (ChainHead & { readonly publicKey: string })[];
  /** Signed checkpoints that were checked. */
  readonly checkpoints: number;
  /** Members whose pinned key is not the one another member admitted them with; for a person to look into. */
  readonly keyConflicts: readonly {
    readonly peerId: PeerId;
    readonly position: number;
    readonly publicKey: string;
  }[];
}
