import type { Server } from 'node:http';
import type { Socket } from 'node:net';
import type { Clock } from '../../events/clock.ts';

/** All connections at once; the kernel keeps further ones waiting no longer than its backlog. */
const MAX_CONNECTIONS = 4_096;
/** Connections from one network: a whole site behind one NAT, and still no single host can take them all. */
const MAX_PER_NETWORK = 512;
/** A flood is one line in the log a minute, not one a connection. */
const REPORT_EVERY_MS = 60_000;

/** One household of IPv6 has 2^64 addresses. */
export const networkOf = (address: string): string =>
  address.includes(':') && !/^::ffff:\d+\./i.test(address)
    ? address.split(':').slice(0, 4).join(':')
    : address.replace(/^::ffff:/i, '');

/**
 * Keeps one network from holding every connection of the agent. How long a connection may take over a request is the server's own
 * affair (`headersTimeout`, `requestTimeout`).
 */
export function limitConnections(
  server: Server,
  deps: { readonly clock: Clock; readonly warn: (fields: object, text: string) => void },
  perNetwork = MAX_PER_NETWORK,
): void {
  const open = new Map<string, number>();
  let reportedAt = Number.NEGATIVE_INFINITY;
  server.maxConnections = MAX_CONNECTIONS;
  server.on('connection', (socket: Socket) => {
    const network = networkOf(socket.remoteAddress ?? 'unknown');
    const held = open.get(network) ?? 0;
    if (held >= perNetwork) {
      socket.destroy();
      const now = deps.clock.monotonic();
      if (now - reportedAt >= REPORT_EVERY_MS) {
        reportedAt = now;
        deps.warn(
          { network, connections: held },
          'too many connections from one network; further ones are closed',
        );
      }
      return;
    }
    open.set(network, held + 1);
    socket.once('close', () => {
      const left = (open.get(network) ?? 1) - 1;
      if (left > 0) open.set(network, left);
      else open.delete(network);
    });
  });
}
