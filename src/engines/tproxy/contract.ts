import type { Carriage, TransportSetting } from '../kcp/carriage.ts';
import type { KcpStats } from '../kcp/stats.ts';

/**
 * The TCP engine as the rest of Arctic sees it. What crosses this boundary is configuration in and counters out; bytes never do.
 * Two implementations: the TypeScript relay (model and fallback) and the native loop; both under
 * `test/kernel/engines/compliance.ts`.
 */
export interface TproxyService {
  readonly serviceId: string;
  readonly name: string;
  /**
   * fwmark of captured connections (entry). The engine reads it from the accepted socket (it sets
   * net.ipv4.tcp_fwmark_accept=1), and answers to the client carry it from SYN-ACK on; so the firewall's input chain
   * must change bits 20-23 of it to a kind that policy routing does not deliver locally, or the answers would loop
   * to `lo`. The engine ignores those bits.
   */
  readonly mark: number;
  /** The other end. */
  readonly peerId: string;
  readonly transport: TransportSetting;
  readonly fullyTransparent: boolean;
  /** Bits a second in each direction; 0 is unlimited. */
  readonly limitBitsPerSecond: number;
}

export interface TproxyExit extends TproxyService {
  /** A dial is allowed when destination (and client source, where given) lie in one of these. */
  readonly allowed: readonly { readonly source: string | null; readonly destination: string | null }[];
}

export interface TproxyPeer {
  readonly peerId: string;
  /** `host` and `port` of the peer's carrier listener (TPROXY_PORT). */
  readonly host: string;
  readonly port: number;
}

export interface TproxyConfig {
  readonly entries: readonly TproxyService[];
  readonly exits: readonly TproxyExit[];
  readonly peers: readonly TproxyPeer[];
}

/** Keys of pairs, from the handshake. Secrets stay in memory. */
export interface CarrierKeys {
  /** Newest session with the peer; undefined before a handshake. */
  current(peerId: string): CarrierSession | undefined;
  /** By the id a carrier names in its first bytes; previous sessions stay until they are retired. */
  byId(sessionId: string): CarrierSession | undefined;
  /**
   * Called when another session is the newest with a peer: links are dialed under it from then on. The peer may have started
   * again and know no other, long before the one before is retired here.
   */
  onCurrent(listener: (peerId: string) => void): () => void;
  /**
   * Called when a session is retired: no new flows under it. When its peer was removed all carriers with the peer must die within
   * a second, also those under sessions that were retired before.
   */
  onRetired(listener: (sessionId: string, reason: 'renewed' | 'removed', peerId: string) => void): () => void;
}

export interface CarrierSession {
  /** 16 bytes, hex. Public. */
  readonly sessionId: string;
  readonly peerId: string;
  /** 32 bytes for carriers only (HKDF-SHA256 of the pair secret, label `arctic v1 carrier`). */
  readonly key: Uint8Array;
  /** True when this host initiated the handshake: gives each direction its own key. */
  readonly initiator: boolean;
}

export interface FlowCounters {
  readonly connections: number;
  readonly active: number;
  /** Read from the local connection: from the client at the entry, from the destination at the exit. */
  readonly bytesIn: number;
  /** Written to the local connection. */
  readonly bytesOut: number;
  /** Turned away by a rule or a limit. */
  readonly refused: number;
  /**
   * Accepted, but no connection to the destination came about. At the entry: no link could be had, or it or the exit ended the flow
   * before that; not when the client left while the exit was connecting.
   */
  readonly failed: number;
}

/** Upper bounds of the buckets of open latency, seconds; one more bucket is beyond. `kOpenBounds` of the native relay. */
export const OPEN_BOUNDS = [
  0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5,
] as const;

/** What the native relay counts beyond the model. */
export interface FlowDetail {
  /** On a link that had carried a flow before. */
  readonly reused: number;
  /** Ended because nothing moved for the idle time. */
  readonly timedOut: number;
  /** How often and how long the bandwidth limit held a flow. */
  readonly limiterWaits: number;
  readonly limiterWaitMs: number;
  /** Until the destination was connected. By bucket, not cumulative; one more than OPEN_BOUNDS. */
  readonly opened: readonly number[];
  readonly openMs: number;
}

/** One flow as it is now. */
export interface FlowView {
  readonly serviceId: string;
  readonly side: 'entry' | 'exit';
  readonly client: { readonly address: string; readonly port: number };
  readonly destination: { readonly address: string; readonly port: number };
  /** Without a link, without its destination, or with one direction ended. */
  readonly state: 'waiting' | 'connecting' | 'open' | 'closing';
  readonly ageMs: number;
  readonly bytesIn: number;
  readonly bytesOut: number;
  /** Null until the destination is connected. */
  readonly openMs: number | null;
  readonly reused: boolean;
  readonly limiterWaits: number;
  readonly limiterWaitMs: number;
  /**
   * Of the link under it, in this host's sending direction, since the link was made; over KCP of the association that all
   * flows to that peer share. Null without one.
   */
  readonly path: {
    readonly transport: 'tcp' | 'kcp';
    readonly rttMs: number;
    readonly leastRttMs: number;
    readonly bytesSent: number;
    readonly bytesRetransmitted: number;
    readonly retransmissions: number;
    /** Share of what is sent that does not arrive: over TCP what was sent again, over KCP as the peer reports it, smoothed. Null before that. */
    readonly loss: number | null;
    /** Null over KCP, which has its own. */
    readonly congestionControl: string | null;
  } | null;
}

export interface TproxyStats {
  readonly implementation: 'typescript' | 'native';
  readonly congestionControl: string;
  readonly services: Readonly<
    Record<
      string,
      {
        readonly entry: FlowCounters & { readonly detail?: FlowDetail };
        readonly exit: FlowCounters & { readonly detail?: FlowDetail };
      }
    >
  >;
  readonly carriers: Readonly<
    Record<
      string,
      {
        readonly idle: number;
        readonly leased: number;
        readonly dialed: number;
        readonly accepted: number;
        readonly reused: number;
        readonly failed: number;
        /** This side's sending, sampled: seconds behind. Only of the native relay. */
        readonly path?: {
          readonly rttMs: number;
          readonly leastRttMs: number;
          readonly bytesSent: number;
          readonly bytesRetransmitted: number;
        };
      }
    >
  >;
  /** Peers of services with transport `kcp` or `auto` from here. */
  readonly kcp: Readonly<Record<string, KcpStats>>;
  /** What belongs to no service: connections nobody redirected, carriers without a session, flows no rule allows. */
  readonly refused: { readonly connections: number; readonly carriers: number; readonly flows: number };
}

export interface TproxyEngine {
  /** Opens the transparent listeners (entry) and the carrier listener (exit). */
  start(): Promise<void>;
  /** Drains for at most `graceMs`, then resets what is left. */
  stop(graceMs?: number): Promise<void>;
  /** Replaces the configuration at once; established flows of services that remain go on. */
  configure(config: TproxyConfig): void;
  /** What is configured now, for comparison by the reconciler. */
  configured(): TproxyConfig;
  stats(): TproxyStats;
  /** The largest flows of a service, or of all, 1,000 at most; empty when the relay does not answer within 2 s. */
  flows(serviceId?: string): Promise<readonly FlowView[]>;
  /** Over what flows that enter here travel now; undefined for a service that does not. */
  carriage(serviceId: string): Carriage | undefined;
  /** Peers that should be reached over KCP and do not answer, and the UDP port they were asked on. */
  silentOverKcp(): readonly { readonly peerId: string; readonly port: number }[];
  /** Port of the local transparent listener that the firewall names in `tproxy to`. */
  readonly listenPort: number;
}
