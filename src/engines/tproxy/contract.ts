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
  readonly transport: 'tcp' | 'kcp';
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
  /** Called when a session is retired or its peer removed: carriers under it must die within a second. */
  onRetired(listener: (sessionId: string, reason: 'renewed' | 'removed') => void): () => void;
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
  /** Accepted, but no carrier (entry) or no connection to the destination (exit) came about. */
  readonly failed: number;
}

/** One peer over KCP, as the side that dials it sees it. */
export interface KcpStats {
  /**
   * `unreachable`: nothing answers on UDP; flows go over TCP until something does. `unsupported`: this relay has no KCP.
   */
  readonly state: 'trying' | 'up' | 'unreachable' | 'unsupported';
  readonly roundTripMs: number;
  /** Share of datagrams towards the peer that did not arrive, as it reports. */
  readonly loss: number;
  /** How many datagrams that figure rests on. */
  readonly lossSamples: number;
  readonly flows: number;
  /** Bits a second the path has been seen to carry. */
  readonly bandwidthBits: number;
  /** Parity datagrams sent with each group of 20 now. */
  readonly parity: number;
  readonly sentDatagrams: number;
  readonly sentBytes: number;
  readonly receivedDatagrams: number;
  readonly receivedBytes: number;
  /** Sent and never arrived. */
  readonly missing: number;
  /** Did not arrive here but could be worked out from parity. */
  readonly recovered: number;
  /** Segments that were sent again. */
  readonly repeated: number;
}

export interface TproxyStats {
  readonly implementation: 'typescript' | 'native';
  readonly congestionControl: string;
  readonly services: Readonly<Record<string, { readonly entry: FlowCounters; readonly exit: FlowCounters }>>;
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
      }
    >
  >;
  /** Peers of services with transport `kcp` from here. */
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
  /** Port of the local transparent listener that the firewall names in `tproxy to`. */
  readonly listenPort: number;
}
