/** Tries the ways of the data planes to a peer for gossip: the carrier's over TCP and KCP, and the tunnel's. */
import { lookup } from 'node:dns/promises';
import { isIP } from 'node:net';
import type { PeerId } from '../events/brand.ts';
import type { Clock, Random } from '../events/clock.ts';
import { type ReachDependencies, type Target, tryCarrier } from './engines/reach/carrier.ts';
import { speakWith } from './engines/reach/datagrams.ts';
import { encodeKcpHello, provesKcpWelcome } from './engines/reach/kcp.ts';
import { portTest, type TunnelPort } from './engines/reach/tunnel-port.ts';
import type { CarrierSession } from './engines/tproxy/contract.ts';
import { NONCE_LENGTH } from './engines/tproxy/link-keys.ts';
import type { DataPlane, DataPort } from './gossip/machine/data-plane.ts';

/** Until a port that does not answer counts as closed, ms: a SYN that got lost is sent again after one and three seconds. */
const PATIENCE = 3_500;
/** Pause between two datagrams, ms: one that gets lost proves nothing. */
const AGAIN = 200;

export interface DataPlaneTriesOptions {
  /** TPROXY_PORT and TUNNEL_PORT, which all agents of a cluster share. */
  readonly carrierPort: number;
  readonly tunnelPort: number;
}

export interface DataPlaneTriesDependencies extends ReachDependencies {
  readonly clock: Clock;
  readonly random: Random;
  readonly keys: { current(peer: PeerId): CarrierSession | undefined };
  readonly port: TunnelPort;
}

export function createDataPlaneTries(
  options: DataPlaneTriesOptions,
  deps: DataPlaneTriesDependencies,
): DataPlane {
  const { clock, random, addon, mark } = deps;
  const tunnel: DataPort = { protocol: 'udp', port: options.tunnelPort };
  const overTcp: DataPort = { protocol: 'tcp', port: options.carrierPort };
  const overKcp: DataPort = { protocol: 'udp', port: options.carrierPort };

  /** Sends until told to stop. */
  const repeat = (target: Target, bytes: Uint8Array, heard: (bytes: Buffer) => void): (() => void) => {
    const socket = speakWith(addon, target, mark, heard);
    let cancel = (): void => {};
    const send = (): void => {
      socket.send(bytes);
      cancel = clock.after(AGAIN, send);
    };
    send();
    return () => {
      cancel();
      socket.close();
    };
  };

  return {
    tunnel,
    try(peer, host, token) {
      const listening = deps.port.listen(token);
      const stops: (() => void)[] = [];
      const tried = new Map<DataPort, boolean>();
      let ended = false;
      const session = deps.keys.current(peer);

      const begin = (address: string, under: CarrierSession): void => {
        const carrier = { address, port: options.carrierPort };
        stops.push(tryCarrier(carrier, under, deps, (reached) => void tried.set(overTcp, reached)));
        const name = Buffer.from(random.bytes(4)).readUInt32BE(0);
        const hello = encodeKcpHello(under, name, random.bytes(NONCE_LENGTH));
        stops.push(
          repeat(carrier, hello, (bytes) => {
            if (provesKcpWelcome(bytes, hello, under)) tried.set(overKcp, true);
          }),
        );
        stops.push(repeat({ address, port: options.tunnelPort }, portTest(token), () => {}));
      };
      const start = async (): Promise<void> => {
        const address = isIP(host) === 0 ? (await lookup(host)).address : host;
        if (!ended && session !== undefined) begin(address, session);
      };
      // Without an address, or without a way there, nothing is heard, and time says so.
      start().catch(() => {});
      stops.push(
        clock.after(PATIENCE, () => {
          for (const port of [overTcp, overKcp]) if (!tried.has(port)) tried.set(port, false);
        }),
      );

      return {
        closed: () =>
          tried.size < 2 ? undefined : [overTcp, overKcp].filter((port) => tried.get(port) === false),
        heard: listening.heard,
        end() {
          if (ended) return;
          ended = true;
          listening.end();
          for (const stop of stops) stop();
        },
      };
    },
  };
}
