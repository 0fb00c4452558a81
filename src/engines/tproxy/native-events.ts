/** What the native relay's thread has to say, put into the log. */

import { errnoName } from '../../native/addon.ts';
import type { EngineLogger } from './dependencies.ts';
import type { WarnSeldom } from './rate-limited-log.ts';

export type LogEvent = (kind: string, subject: string, rest: readonly string[]) => void;

/** Kinds are those `Shared::Emit` is called with in src/native/relay. */
export function createEventLog(logger: EngineLogger, warnSeldom: WarnSeldom): LogEvent {
  return (kind, subject, [first = '', second = '', third = '']) => {
    switch (kind) {
      case 'stray':
        warnSeldom(
          `stray ${subject}`,
          { client: subject, mark: Number(first) },
          'connection refused: it was not redirected here for a service',
        );
        return;
      case 'full':
        warnSeldom(
          `full ${subject}`,
          { limit: subject, service: first },
          'connection refused: a limit is reached',
        );
        return;
      case 'budget':
        warnSeldom(
          'budget',
          { flows: Number(subject), wanted: Number(first) },
          'fewer flows than configured: raise the limit of open files (LimitNOFILE)',
        );
        return;
      case 'refused':
        warnSeldom(
          `refused ${subject}`,
          { peer: subject, service: first, destination: second, source: third },
          'flow refused: no service and route of this peer allow the destination',
        );
        return;
      case 'dial':
        warnSeldom(
          `dial ${subject}`,
          { peer: subject, error: errnoName(Number(first)) },
          'a carrier to the peer cannot be dialed',
        );
        return;
      case 'unreachable':
        warnSeldom(
          `unreachable ${subject}`,
          { peer: subject, service: first },
          'connection reset: no carrier to the peer could be had in time',
        );
        return;
      case 'lost':
        warnSeldom(`lost ${subject}`, { peer: subject, reason: first }, 'carrier link lost under a flow');
        return;
      case 'handshake':
        warnSeldom(`handshake ${subject}`, { peer: subject, reason: first }, 'carrier handshake failed');
        return;
      case 'datagrams':
        warnSeldom(
          'datagrams',
          { port: Number(subject), error: errnoName(Number(first)) },
          'the UDP port cannot be opened: services with transport kcp are carried over TCP',
        );
        return;
      case 'kcp':
        if (first === '3') {
          warnSeldom(
            `kcp ${subject}`,
            { peer: subject },
            'the peer does not answer over KCP: its services are carried over TCP until it does',
          );
        } else if (first === '2') logger.info({ peer: subject }, 'the peer answers over KCP');
        return;
      case 'descriptors':
        warnSeldom('descriptors', {}, 'accepting pauses: the process is out of file descriptors');
        return;
      case 'idle':
        logger.debug({ peer: subject, reason: first }, 'idle carrier link closed');
        return;
    }
  };
}
