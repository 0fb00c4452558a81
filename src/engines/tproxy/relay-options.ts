/** What can be set about a relay, TypeScript or native, and what it is when nothing is said. */
import type { LinkOptions } from './link.ts';
import type { PoolOptions } from './link-pool.ts';

export interface RelayOptions {
  /** Port of the transparent listeners, as the firewall names it. Default 61001. */
  readonly listenPort?: number;
  /** TPROXY_PORT: where peers' carriers arrive. */
  readonly carrierPort: number;
  readonly pool?: Partial<PoolOptions>;
  readonly link?: Partial<LinkOptions>;
  /** Milliseconds for a connection to a destination. Default 10,000. */
  readonly connectTimeout?: number;
  /** Flows at once, entry and exit together; each takes two descriptors. Default 8,192. */
  readonly mostFlows?: number;
  /** Flows of one service at once. Default three quarters of `mostFlows`, so that none takes all. */
  readonly mostServiceFlows?: number;
  /** Flows that one peer may have at this exit. Default three quarters of `mostFlows`. */
  readonly mostPeerFlows?: number;
  /** Milliseconds after which a flow that nothing moves on is reset. Default 0: never. */
  readonly flowIdleTimeout?: number;
  /** Accepted carriers that have not proved themselves yet. Default 512. */
  readonly mostHandshakes?: number;
  /** Of them those from one address. Default 128: twice what a dialer has under way. */
  readonly mostSourceHandshakes?: number;
  /** Milliseconds an accepted idle link of a renewed session may still be used by its dialer. Default 5,000. */
  readonly renewalGrace?: number;
  /** Milliseconds of silence after which an accepted idle link is closed; dialers send PING. Default 60,000. */
  readonly silenceTimeout?: number;
}

/** Where the engine listens for redirected connections unless told otherwise; the firewall's `tproxy to` names it. */
export const DEFAULT_LISTEN_PORT = 61_001;

const POOL: PoolOptions = {
  warm: 8,
  most: 8_192,
  waitTimeout: 5_000,
  idleTimeout: 60_000,
  pingEvery: 15_000,
  backoffLeast: 50,
  backoffMost: 2_000,
};
const LINK: LinkOptions = { handshakeTimeout: 5_000, rekeyFrames: 2 ** 20, rekeyAfter: 3_600_000 };

export type CompleteRelayOptions = Readonly<{
  listenPort: number;
  carrierPort: number;
  pool: PoolOptions;
  link: LinkOptions;
  connectTimeout: number;
  mostFlows: number;
  mostServiceFlows: number;
  mostPeerFlows: number;
  flowIdleTimeout: number;
  mostHandshakes: number;
  mostSourceHandshakes: number;
  renewalGrace: number;
  silenceTimeout: number;
}>;

export function completeOptions(options: RelayOptions): CompleteRelayOptions {
  const mostFlows = options.mostFlows ?? 8_192;
  const most = Math.ceil(mostFlows * 0.75);
  return {
    listenPort: options.listenPort ?? DEFAULT_LISTEN_PORT,
    carrierPort: options.carrierPort,
    // A flow is a link: fewer would make flows wait that may be had.
    pool: { ...POOL, most: mostFlows, ...options.pool },
    link: { ...LINK, ...options.link },
    connectTimeout: options.connectTimeout ?? 10_000,
    mostFlows,
    mostServiceFlows: options.mostServiceFlows ?? most,
    mostPeerFlows: options.mostPeerFlows ?? most,
    flowIdleTimeout: options.flowIdleTimeout ?? 0,
    mostHandshakes: options.mostHandshakes ?? 512,
    mostSourceHandshakes: options.mostSourceHandshakes ?? 128,
    renewalGrace: options.renewalGrace ?? 5_000,
    silenceTimeout: options.silenceTimeout ?? 60_000,
  };
}
