/**
 * The IP tunnel as the rest of Arctic sees it: configuration in, counters out. Packets pass in two native threads and never
 * enter JavaScript.
 */

import type { PackedRoutes } from './packed-routes.ts';

export interface TunnelRoute {
  readonly source: string | null;
  readonly dest: string | null;
  readonly serviceId: string;
}

/** Routes of one family that look at the same lengths. The order of classes is the order of evaluation. */
export interface TunnelClass {
  readonly family: 'ipv4' | 'ipv6';
  /** Prefix length, or null when the class does not look at that side. */
  readonly sourceLength: number | null;
  readonly destLength: number | null;
  /** Packed where there may be very many. */
  readonly routes: readonly TunnelRoute[] | PackedRoutes;
}

export interface TunnelSide {
  /** The service that takes what no route names (one with an interface of its own), or null. */
  readonly fallback: string | null;
  readonly classes: readonly TunnelClass[];
}

/** What may pass between this host and a peer. Nothing the peer sends widens it. */
export interface TunnelPolicy {
  /** Services whose source is this host. */
  readonly entries: TunnelSide;
  /** Services whose source is the peer. */
  readonly exits: TunnelSide;
}

export interface TunnelPeer {
  readonly peerId: string;
  /** Name of the TUN device, at most 15 characters. */
  readonly device: string;
  /** Where the peer listens; a host name is looked up. Undefined while not known: the peer may still find us. */
  readonly endpoint: { readonly host: string; readonly port: number } | undefined;
  readonly policy: TunnelPolicy;
  /** Bits a second this host may send for a service; absent means unlimited. */
  readonly limits: readonly { readonly serviceId: string; readonly bitsPerSecond: number }[];
}

export interface TunnelConfig {
  readonly peers: readonly TunnelPeer[];
}

export interface TunnelKeys {
  readonly sessionId: string;
  /** 32 bytes each. */
  readonly send: Uint8Array;
  readonly receive: Uint8Array;
}

/** Keys of pairs, from the handshake. */
export interface TunnelKeySource {
  /** The session to send under; undefined before a handshake. */
  current(peerId: string): { readonly sessionId: string } | undefined;
  /** Keys of the current session for an epoch, 0 to 2^32 - 1. */
  tunnelKeys(peerId: string, epoch: number): TunnelKeys | undefined;
  /** Called when a session ends: its keys must die within a second. */
  onRetired(listener: (sessionId: string) => void): () => void;
}

export type TunnelAead = 'AES-256-GCM' | 'ChaCha20-Poly1305' | 'AEGIS-128L';

export interface TunnelPeerStats {
  readonly peerId: string;
  readonly device: string;
  /** Milliseconds since the session in use was first seen here; null before a handshake. */
  readonly handshakeAgeMs: number | null;
  /** Of the key in use. */
  readonly epoch: number | null;
  /** What is sent to the peer now. */
  readonly aead: TunnelAead;
  /** Where the peer was last heard from, or is expected; `address:port`. */
  readonly endpoint: string | null;
  /** Milliseconds since an authenticated datagram came, to the engine's tick; null for never. */
  readonly heardAgoMs: number | null;
  readonly mtu: number;
  readonly sent: {
    readonly packets: number;
    readonly bytes: number;
    readonly datagrams: number;
    readonly wireBytes: number;
  };
  readonly received: {
    readonly packets: number;
    readonly bytes: number;
    readonly datagrams: number;
    readonly wireBytes: number;
  };
  /** Datagrams the peer sent that did not come. */
  readonly lost: number;
  readonly dropped: {
    /** No key or endpoint yet. */
    readonly unready: number;
    readonly socket: number;
    /** The bandwidth limit's queue was full. */
    readonly limit: number;
  };
  readonly refused: {
    readonly replayed: number;
    readonly forged: number;
    readonly malformed: number;
    /** Packets no service of the pair covers: a spoofed source. */
    readonly source: number;
    readonly congested: number;
    readonly undelivered: number;
  };
}

export interface TunnelStats {
  readonly port: number;
  readonly peers: readonly TunnelPeerStats[];
  /** Datagrams that belong to no peer. */
  readonly refused: { readonly foreign: number; readonly unknown: number; readonly forged: number };
}

/** A device as the engine holds it. */
export interface TunnelDevice {
  readonly name: string;
  readonly index: number;
}

export interface TunnelEngine {
  /** Once for each engine. The UDP port is opened, and the threads start, with the first peer. */
  start(): Promise<void>;
  /** Ends the threads, wipes the keys and lets the devices go. */
  stop(): Promise<void>;
  /** Makes what is configured so: devices come and go, peers that remain keep their keys and counters. */
  configure(config: TunnelConfig): Promise<void>;
  configured(): TunnelConfig;
  /** Devices the engine holds, by peer. */
  devices(): ReadonlyMap<string, TunnelDevice>;
  stats(): TunnelStats;
}
