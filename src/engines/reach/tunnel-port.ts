/**
 * Whether a peer's datagrams come in at the tunnel's port. The tunnel answers nobody, and has no socket before its first peer; so
 * the side that listens says what it heard, over the session with the peer.
 */
import { type NativeAddon, SystemCallError } from '../../native/addon.ts';
import type { TunnelEngine } from '../iptun/contract.ts';
import { openTunnelSocket } from '../iptun/socket.ts';
import { type Datagrams, follow } from './datagrams.ts';

/** No datagram of the tunnel begins so: its first byte names an AEAD. */
const PREFIX = Buffer.from('arctic port test ', 'ascii');

/** What is sent to a tunnel port; `token` was agreed on over the session. */
export const portTest = (token: string): Buffer => Buffer.concat([PREFIX, Buffer.from(token, 'ascii')]);

export interface TunnelPort {
  /** Whether something with this token came in since. Once the tunnel itself has the port, whether anything foreign came in. */
  listen(token: string): { heard(): boolean; end(): void };
  /** The engine, which gets its port from here when it wants it. */
  readonly engine: TunnelEngine;
}

export interface TunnelPortOptions {
  readonly port: number;
  readonly mark: number;
}

/** The engine must be configured through the one returned, and by nobody else. */
export function createTunnelPort(
  options: TunnelPortOptions,
  deps: { readonly addon: NativeAddon; readonly engine: TunnelEngine },
): TunnelPort {
  const { addon, engine } = deps;
  const awaited = new Set<string>();
  const came = new Set<string>();
  let socket: Datagrams | undefined;
  let taken = false;

  const close = (): void => {
    socket?.close();
    socket = undefined;
  };
  const open = (): void => {
    if (socket !== undefined || taken) return;
    try {
      socket = follow(addon, openTunnelSocket(addon, options.port, options.mark), (bytes) => {
        if (!bytes.subarray(0, PREFIX.length).equals(PREFIX)) return;
        const token = bytes.toString('ascii', PREFIX.length);
        if (awaited.has(token)) came.add(token);
      });
    } catch (error) {
      // Another program has the port: then nothing of the tunnel comes in either.
      if (!(error instanceof SystemCallError)) throw error;
    }
  };

  return {
    listen(token) {
      const before = engine.stats().refused.foreign;
      awaited.add(token);
      open();
      return {
        heard: () => came.has(token) || engine.stats().refused.foreign > before,
        end() {
          awaited.delete(token);
          came.delete(token);
          if (awaited.size === 0) close();
        },
      };
    },
    engine: {
      ...engine,
      async configure(config) {
        // The port is the engine's from its first peer on.
        if (config.peers.length > 0) {
          taken = true;
          close();
        }
        await engine.configure(config);
      },
    },
  };
}
