import type { ServerResponse } from 'node:http';
import type { FastifyReply } from 'fastify';
import type { Position } from '../../events/brand.ts';
import type { Clock } from '../../events/clock.ts';
import { ArcticError } from '../../events/errors.ts';
import type { Log, ReadFilter } from '../../events/log-contract.ts';
import type { EventRows } from './event-rows.ts';

/** Comments that keep proxies from closing a silent stream. */
const KEEPALIVE_MS = 15_000;
/** Events read at once: what one slow reader can hold in memory. */
const PAGE = 500;
/** Each stream holds a socket and a subscription. */
const MAX_STREAMS = 100;

/** Server-sent events (WHATWG HTML 9.2) of the log; the id of each is its position, from which a reader resumes. */
export interface EventStreams {
  /** Sends everything after `position` that fits, then follows as long as `mayGoOn`. Takes the reply over. */
  open(reply: FastifyReply, filter: ReadFilter, position: Position, mayGoOn: () => boolean): FastifyReply;
  /** Ends all streams; their readers come back to whoever answers next. */
  close(): void;
  readonly size: number;
}

export function createEventStreams(deps: {
  readonly log: Log;
  readonly rows: Pick<EventRows, 'listed'>;
  readonly clock: Clock;
}): EventStreams {
  const { log, rows, clock } = deps;
  const open = new Set<() => void>();
  return {
    get size() {
      return open.size;
    },
    open(reply, filter, position, mayGoOn) {
      if (open.size >= MAX_STREAMS) {
        throw new ArcticError(
          'UNAVAILABLE',
          `${MAX_STREAMS} event streams are open already; close one, or read in pages.`,
        );
      }
      const requestId = reply.request.id;
      reply.hijack();
      reply.raw.writeHead(200, {
        'content-type': 'text/event-stream; charset=utf-8',
        'cache-control': 'no-store',
        'x-request-id': requestId,
        'x-accel-buffering': 'no',
        // The socket ends with the stream, so that a stopping agent has nobody to wait for.
        connection: 'close',
      });
      const end = follow(reply.raw, filter, position, { log, rows, clock, mayGoOn }, () => open.delete(end));
      open.add(end);
      return reply;
    },
    close() {
      for (const end of [...open]) end();
    },
  };
}

/** Reads a page whenever the socket has room and the log has news, so a slow reader costs one page and never the log. */
function follow(
  socket: ServerResponse,
  filter: ReadFilter,
  from: Position,
  deps: {
    readonly log: Log;
    readonly rows: Pick<EventRows, 'listed'>;
    readonly clock: Clock;
    readonly mayGoOn: () => boolean;
  },
  onEnd: () => void,
): () => void {
  const { log, rows, clock, mayGoOn } = deps;
  let position = from;
  let ended = false;
  let full = false;
  let cancelKeepalive = () => {};
  let scheduled = false;

  const end = () => {
    if (ended) return;
    ended = true;
    unsubscribe();
    cancelKeepalive();
    socket.end();
    onEnd();
  };
  const pump = () => {
    scheduled = false;
    if (!mayGoOn()) return end();
    while (!ended && !full) {
      const head = log.head;
      const page = log.read({ ...filter, after: position, limit: PAGE });
      for (const event of rows.listed(page)) {
        full =
          !socket.write(`id: ${event.position}\nevent: ${event.type}\ndata: ${JSON.stringify(event)}\n\n`) ||
          full;
        position = event.position;
      }
      if (page.length < PAGE) {
        // Nothing else fits up to here; the next read starts after it.
        position = Math.max(position, head) as Position;
        return;
      }
    }
  };
  const wake = () => {
    if (scheduled || full) return;
    scheduled = true;
    setImmediate(pump);
  };
  const keepalive = () => {
    if (!mayGoOn()) return end();
    if (!full) socket.write(': keepalive\n\n');
    cancelKeepalive = clock.after(KEEPALIVE_MS, keepalive);
  };
  const unsubscribe = log.subscribe(wake);
  socket.on('drain', () => {
    full = false;
    wake();
  });
  socket.on('close', end);
  socket.on('error', end);
  // Sends the head at once, so that the reader knows it is connected.
  socket.write(': arctic event stream\nretry: 1000\n\n');
  cancelKeepalive = clock.after(KEEPALIVE_MS, keepalive);
  wake();
  return end;
}
