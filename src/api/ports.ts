import type { Logger } from 'pino';
import type { Registry } from 'prom-client';
import type { Dispatcher } from 'undici';
import type { PeerId, ServiceId } from '../../events/brand.ts';
import type { Clock, Random } from '../../events/clock.ts';
import type { Actor } from '../../events/envelope.ts';
import type { Ids } from '../../events/ids.ts';
import type { Log } from '../../events/log-contract.ts';
import type { Projections } from '../../projections/runner.ts';
import type { Executor } from '../commands/execute.ts';
import type { ClosedPort } from '../health/closed-ports.ts';
import type { KernelFacts } from '../health/facts.ts';
import type { Identity } from '../identity/contract.ts';
import type { RecoveryToken } from '../identity/recovery-token.ts';
import type { TrustRoot } from '../identity/trust-roots.ts';

export interface ApiOptions {
  /** IP address to listen on; `::` listens on IPv4 too. */
  readonly host: string;
  /** 0 takes a free one. */
  readonly port: number;
  /** PEM; undefined: plain HTTP. */
  readonly tls: { readonly cert: Buffer; readonly key: Buffer } | undefined;
  /** Of the agent, as in `arctic version`. */
  readonly version: string;
  /** What this peer is called when bootstrap gives no name. */
  readonly hostName: string;
}

export interface ApiDeps {
  /** What was found of this host's kernel at start; absent: not looked at. */
  readonly kernelFacts?: KernelFacts;
  readonly clock: Clock;
  readonly random: Random;
  readonly ids: Ids;
  readonly logger: Logger;
  readonly log: Log;
  readonly projections: Projections;
  readonly executor: Executor;
  readonly identity: Identity;
  readonly recovery: RecoveryToken;
  /** Read anew for every license, so that a root can be installed without a restart. */
  readonly trustRoots: () => readonly TrustRoot[];
  /** `host:port` and URLs that other peers are given, asked at bootstrap. */
  readonly advertise: () => { readonly address: string; readonly endpoints: readonly string[] };
  readonly peerSide: PeerSide;
  readonly reconcilers: ReconcilerSide;
  readonly traffic: TrafficSide;
  readonly tunnels: TunnelSide;
  /** Raises the level of the agent's log for a while; gives when that ends, milliseconds since the epoch. */
  readonly setLogLevel: (level: 'trace' | 'debug' | 'info', ms: number) => number;
  /** Where forwarded requests go out. Owned by the caller. */
  readonly dispatcher: Dispatcher;
  /** The agent's own; the API adds its metrics to it. */
  readonly registry: Registry;
}

/** What the API needs of gossip; `Gossip` of src/gossip/contract.ts is one. */
export interface PeerSide {
  addPeer(
    address: string,
    name: string | undefined,
    context: { readonly actor: Actor; readonly correlationId: string },
  ): Promise<PeerId>;
  sync(timeoutMs?: number): Promise<void>;
  observed(peer: PeerId): {
    readonly state: 'pending' | 'active' | 'unreachable';
    readonly last_seen_at: string | null;
    readonly reason: string | null;
    readonly closed_ports: readonly ClosedPort[];
    readonly lag: number;
    readonly log_head: number | null;
    readonly projection_digest: string | null;
    readonly clock_skew_ms: number | null;
    readonly changes_held_until: string | null;
  };
  allowance(path: string, head: Uint8Array): { readonly bytes: number; readonly session: string | undefined };
  handle(request: {
    readonly method: string;
    readonly path: string;
    readonly headers: Readonly<Record<string, string | undefined>>;
    readonly body: Uint8Array;
    readonly remoteAddress: string;
  }): Promise<{
    readonly status: number;
    readonly headers: Readonly<Record<string, string>>;
    readonly body: Uint8Array;
  }>;
}

/** What the API needs of the IP tunnel; `TunnelEngine` of src/engines/iptun/contract.ts is one. */
export interface TunnelSide {
  stats(): {
    readonly peers: readonly {
      readonly peerId: string;
      readonly device: string;
      readonly handshakeAgeMs: number | null;
      readonly heardAgoMs: number | null;
      readonly endpoint: string | null;
      readonly aead: string;
      readonly mtu: number;
      readonly sent: TunnelCounts;
      readonly received: TunnelCounts;
      readonly lost: number;
      readonly dropped: Readonly<Record<'unready' | 'socket' | 'limit', number>>;
      readonly refused: Readonly<
        Record<'replayed' | 'forged' | 'malformed' | 'source' | 'congested' | 'undelivered', number>
      >;
    }[];
  };
}

interface TunnelCounts {
  readonly packets: number;
  readonly bytes: number;
  readonly datagrams: number;
}

/** What the API needs of the TCP engine; `TproxyEngine` of src/engines/tproxy/contract.ts is one. */
export interface TrafficSide {
  /** Over what the flows of a service that enters here travel now. */
  carriage(serviceId: string):
    | {
        readonly transport: 'tcp' | 'kcp';
        readonly reason: string;
        readonly roundTripMs: number | null;
        /** A share, not percent. */
        readonly loss: number | null;
      }
    | undefined;
  /** Peers that should be reached over KCP and do not answer, and the UDP port they were asked on. */
  silentOverKcp(): readonly { readonly peerId: string; readonly port: number }[];
  stats(): {
    readonly implementation: 'typescript' | 'native';
    readonly services: Readonly<
      Record<string, { readonly entry: ServiceTraffic; readonly exit: ServiceTraffic }>
    >;
    readonly carriers: Readonly<
      Record<
        string,
        {
          readonly idle: number;
          readonly leased: number;
          readonly path?: {
            readonly rttMs: number;
            readonly bytesSent: number;
            readonly bytesRetransmitted: number;
          };
        }
      >
    >;
    /** Peers that should be reached over KCP. */
    readonly kcp: Readonly<
      Record<
        string,
        {
          readonly state: 'trying' | 'up' | 'unreachable' | 'unsupported';
          readonly flows: number;
          readonly roundTripMs: number;
          readonly loss: number | null;
          readonly sentBytes: number;
          readonly repeatedBytes: number;
        }
      >
    >;
  };
  flows(serviceId?: string): Promise<
    readonly {
      readonly serviceId: string;
      readonly side: 'entry' | 'exit';
      readonly client: { readonly address: string; readonly port: number };
      readonly destination: { readonly address: string; readonly port: number };
      readonly state: 'waiting' | 'connecting' | 'open' | 'closing';
      readonly ageMs: number;
      readonly bytesIn: number;
      readonly bytesOut: number;
      readonly openMs: number | null;
      readonly reused: boolean;
      readonly limiterWaits: number;
      readonly limiterWaitMs: number;
      readonly path: {
        readonly transport: 'tcp' | 'kcp';
        readonly rttMs: number;
        readonly leastRttMs: number;
        readonly bytesSent: number;
        readonly bytesRetransmitted: number;
        readonly retransmissions: number;
        readonly loss: number | null;
        readonly congestionControl: string | null;
      } | null;
    }[]
  >;
}

interface ServiceTraffic {
  readonly connections: number;
  readonly active: number;
  readonly bytesIn: number;
  readonly bytesOut: number;
  readonly refused: number;
  readonly failed: number;
  readonly detail?: {
    readonly reused: number;
    readonly timedOut: number;
    readonly limiterWaits: number;
    readonly limiterWaitMs: number;
    readonly opened: readonly number[];
    readonly openMs: number;
  };
}

interface Status {
  readonly state: 'applied' | 'pending' | 'failed';
  readonly reason: string | null;
}

/** What the API needs of the reconcilers; `Reconcilers` of src/reconcilers/contract.ts is one. */
export interface ReconcilerSide {
  sync(): Promise<void>;
  status(): readonly {
    readonly name: string;
    readonly state: Status['state'];
    readonly last_run_at: string | null;
    readonly last_error: string | null;
    readonly next_run_at: string | null;
    readonly applied_digest: string | null;
    readonly applied_position: number | null;
    readonly consecutive_failures: number;
    readonly condition: string | null;
  }[];
  serviceStatus(service: ServiceId): Readonly<Record<'network' | 'firewall' | 'tproxy' | 'iptun', Status>>;
  drift(): Promise<
    readonly {
      readonly reconciler: string;
      readonly differences: readonly {
        readonly item: string;
        readonly desired: string | null;
        readonly observed: string | null;
        readonly service_id?: ServiceId;
      }[];
      readonly repair_at: string | null;
    }[]
  >;
}
