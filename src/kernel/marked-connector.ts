/**
 * Connections of the agent itself (gossip, forwarded requests) with its own SO_MARK: without it a route that covers a peer's
 * address would capture the very messages that keep the peers together.
 */
import { lookup } from 'node:dns/promises';
import { isIP, isIPv6, Socket } from 'node:net';
import { connect as connectTls } from 'node:tls';
import type { buildConnector } from 'undici';
import type { NativeAddon } from '../native/addon.ts';
import { openDialer } from '../native/transparent.ts';

export interface MarkedConnectorOptions {
  readonly addon: NativeAddon;
  readonly mark: number;
  /** Limit of one address's try, ms. */
  readonly timeoutMs: number;
}

/** An undici connector. Addresses of a name are tried in the resolver's order. */
export function createMarkedConnector(options: MarkedConnectorOptions): buildConnector.connector {
  return (target, callback) => {
    dial(options, target).then(
      (socket) => callback(null, socket),
      (error: unknown) => callback(error instanceof Error ? error : new Error(String(error)), null),
    );
  };
}

async function dial(options: MarkedConnectorOptions, target: buildConnector.Options): Promise<Socket> {
  const host = target.hostname.replace(/^\[|\]$/g, '');
  const port = Number(target.port) || (target.protocol === 'https:' ? 443 : 80);
  const addresses = isIP(host) === 0 ? await lookup(host, { all: true }) : [{ address: host }];
  let first: unknown;
  for (const { address } of addresses) {
    try {
      const socket = await open(options, address, port);
      return target.protocol === 'https:' ? await secure(socket, host, options.timeoutMs) : socket;
    } catch (error) {
      first ??= error;
    }
  }
  throw first ?? new Error(`${host} has no address`);
}

function open(options: MarkedConnectorOptions, address: string, port: number): Promise<Socket> {
  return settled(
    () => {
      const fd = openDialer(options.addon, {
        sourceAddress: isIPv6(address) ? '::' : '0.0.0.0',
        mark: options.mark,
      });
      // `manualStart` keeps Node from reading before the socket is connected.
      const socket = new Socket({ fd, manualStart: true } as ConstructorParameters<typeof Socket>[0]);
      socket.setNoDelay(true);
      return socket.connect({ host: address, port });
    },
    'connect',
    options.timeoutMs,
    `${address}:${port}`,
  );
}

/** Who answers is proved by signatures above TLS, not by a certificate's name. */
const secure = (socket: Socket, host: string, timeoutMs: number): Promise<Socket> =>
  settled(
    () =>
      connectTls({ socket, rejectUnauthorized: false, ...(isIP(host) === 0 ? { servername: host } : {}) }),
    'secureConnect',
    timeoutMs,
    host,
  );

function settled(
  start: () => Socket,
  event: 'connect' | 'secureConnect',
  timeoutMs: number,
  what: string,
): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = start();
    const timer = setTimeout(() => {
      const error = Object.assign(new Error(`no connection to ${what} within ${timeoutMs} ms`), {
        code: 'ETIMEDOUT',
      });
      socket.destroy(error);
    }, timeoutMs);
    const failed = (error: Error): void => {
      clearTimeout(timer);
      reject(error);
    };
    socket.once('error', failed);
    socket.once(event, () => {
      clearTimeout(timer);
      socket.off('error', failed);
      resolve(socket);
    });
  });
}
