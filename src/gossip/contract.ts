import type { PeerId } from '../../events/brand.ts';
import type { DataPort } from './machine/data-plane.ts';

/** What the API, the agent and the engines see of the peer-to-peer side. */
export interface Gossip {
  start(): Promise<void>;
  stop(): Promise<void>;
  /**
   * Handshakes with the agent at `host:port` and admits it. Up to three tries; failures are ArcticErrors with the sentences of the
   * troubleshooting page (`handshake failed: connection refused`...).
   */
  addPeer(
    address: string,
    name: string | undefined,
    context: { readonly actor: import('../../events/envelope.ts').Actor; readonly correlationId: string },
  ): Promise<PeerId>;
  /** One round with everybody, now: handshakes that are due, digests, pulls. Resolves when done or after `timeoutMs`. */
  sync(timeoutMs?: number): Promise<void>;
  /** What this host observes of a peer. */
  observed(peer: PeerId): PeerObservation;
  /** What of a message to this path, beginning with these bytes, is worth reading: the rest need not enter memory. */
  allowance(path: string, head: Uint8Array): MessageAllowance;
  /** Answers a peer's HTTP request (`/v1/peer/*`). Never throws for bad input: gives a status and a body. */
  handle(request: PeerRequest): Promise<PeerResponse>;
  /** Tells the peers we go, before `stop`. */
  leave(): Promise<void>;
}

export interface PeerObservation {
  readonly state: 'pending' | 'active' | 'unreachable';
  readonly last_seen_at: string | null;
  readonly reason: string | null;
  readonly closed_ports: readonly ClosedPort[];
  /** Config events we hold that the peer, by its last digest, did not. */
  readonly lag: number;
  readonly log_head: number | null;
  readonly projection_digest: string | null;
  readonly clock_skew_ms: number | null;
  /** When this host will take changes of the peer that are dated in its future, RFC 3339; null when none wait. */
  readonly changes_held_until: string | null;
}

/** A port that the traffic between two hosts needs and that is closed in one direction. */
export interface ClosedPort extends DataPort {
  /** Out: of the peer, closed to this host. In: of this host, closed to the peer. */
  readonly direction: 'out' | 'in';
  /** The address that was tried. */
  readonly host: string;
}

/** A bound on what somebody who has not proved anything yet makes this host hold. */
export interface MessageAllowance {
  /** Bytes of the body to read; what is longer is cut off there and refused by `handle`. */
  readonly bytes: number;
  /** Messages of one session are counted together; undefined: those of one address are. */
  readonly session: string | undefined;
}

export interface PeerRequest {
  readonly method: string;
  readonly path: string;
  readonly headers: Readonly<Record<string, string | undefined>>;
  readonly body: Uint8Array;
  readonly remoteAddress: string;
}

export interface PeerResponse {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: Uint8Array;
}
