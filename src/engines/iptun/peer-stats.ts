/** Counters of the threads and facts of the engine, as the rest of Arctic reads them. */
import type { TunnelAead, TunnelPeerStats } from './contract.ts';
import { AEGIS_128L, AES_256_GCM, CHACHA20_POLY1305 } from './snapshot.ts';
import type { PeerTotals } from './totals.ts';

const AEADS: Readonly<Record<number, TunnelAead>> = {
  [AES_256_GCM]: 'AES-256-GCM',
  [CHACHA20_POLY1305]: 'ChaCha20-Poly1305',
  [AEGIS_128L]: 'AEGIS-128L',
};

/** What the engine knows of a peer beside its counters. */
export interface PeerFacts {
  readonly peerId: string;
  readonly device: string;
  /** Monotonic, ms; undefined before a handshake. */
  readonly since: number | undefined;
  readonly epoch: number | null;
  /** Of the three of snapshot.ts. */
  readonly aead: number;
  readonly endpoint: { readonly address: string; readonly port: number } | undefined;
  readonly heardAt: number | undefined;
  readonly mtu: number;
}

export function statsOf(facts: PeerFacts, totals: PeerTotals | undefined, now: number): TunnelPeerStats {
  const { since, epoch, aead, heardAt } = facts;
  const endpoint = totals?.endpoint ?? facts.endpoint;
  return {
    peerId: facts.peerId,
    device: facts.device,
    handshakeAgeMs: since === undefined ? null : now - since,
    epoch,
    aead: AEADS[aead] ?? 'AES-256-GCM',
    endpoint:
      endpoint === undefined
        ? null
        : `${endpoint.address.includes(':') ? `[${endpoint.address}]` : endpoint.address}:${endpoint.port}`,
    heardAgoMs: heardAt === undefined ? null : now - heardAt,
    mtu: facts.mtu,
    sent: {
      packets: totals?.sentPackets ?? 0,
      bytes: totals?.sentBytes ?? 0,
      datagrams: totals?.sentDatagrams ?? 0,
      wireBytes: totals?.sentWireBytes ?? 0,
    },
    received: {
      packets: totals?.receivedPackets ?? 0,
      bytes: totals?.receivedBytes ?? 0,
      datagrams: totals?.receivedDatagrams ?? 0,
      wireBytes: totals?.receivedWireBytes ?? 0,
    },
    lost: Math.max(0, totals?.lost ?? 0),
    dropped: {
      unready: totals?.droppedUnready ?? 0,
      socket: totals?.droppedSocket ?? 0,
      limit: totals?.droppedLimit ?? 0,
    },
    refused: {
      replayed: totals?.replayed ?? 0,
      forged: totals?.forged ?? 0,
      malformed: totals?.malformed ?? 0,
      source: totals?.refused ?? 0,
      congested: totals?.congested ?? 0,
      undelivered: totals?.undelivered ?? 0,
    },
  };
}
