import type { FastifyReply, FastifyRequest } from 'fastify';
import { type Dispatcher, errors, request as send } from 'undici';
import { ArcticError } from '../../events/errors.ts';
import type { PeerView } from '../../projections/views.ts';
import type { ApiContext } from './context.ts';
import { HOP_HEADER, writeHop } from './hop.ts';

/** Headers that belong to one connection (RFC 9110 7.6.1), or that we set anew. */
const NOT_FORWARDED = new Set([
  'connection',
  'keep-alive',
  'proxy-authenticate',
  'proxy-authorization',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
  'expect',
  'host',
  'content-length',
  'x-request-id',
  HOP_HEADER,
]);
const ANSWER_TIMEOUT_MS = 60_000;

/** Sends the request on to a member, as the caller, and streams its answer back. */
export async function forwardTo(
  context: ApiContext,
  peer: PeerView,
  request: FastifyRequest,
  reply: FastifyReply,
  address: string,
): Promise<FastifyReply> {
  const body = await readBody(request);
  const headers = endToEnd(request.headers);
  headers['x-request-id'] = request.id;
  headers[HOP_HEADER] = writeHop(context.identity, {
    to: peer.id,
    at: Math.floor(context.clock.now()),
    address,
    method: request.method,
    url: request.url,
    requestId: request.id,
  });
  const endpoints = peer.endpoints.length > 0 ? peer.endpoints : [`http://${peer.address}`];
  let failure: unknown;
  for (const endpoint of endpoints) {
    try {
      const answer = await send(`${endpoint}${request.url}`, {
        method: request.method as Dispatcher.HttpMethod,
        headers,
        body: body.length > 0 ? body : null,
        dispatcher: context.dispatcher,
        headersTimeout: ANSWER_TIMEOUT_MS,
        // Event streams are silent for as long as nothing happens.
        bodyTimeout: 0,
      });
      reply.code(answer.statusCode).headers(endToEnd(answer.headers));
      reply.raw.once('close', () => answer.body.destroy());
      return reply.send(answer.body);
    } catch (error) {
      failure = error;
      // Only a request that never left may be tried elsewhere.
      if (!neverSent(error)) break;
    }
  }
  throw new ArcticError(
    'UNAVAILABLE',
    `peer ${peer.id} (${peer.name}) could not be reached at ${endpoints.join(', ')}: ${reasonOf(failure)}.`,
    [],
    { cause: failure },
  );
}

async function readBody(request: FastifyRequest): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let size = 0;
  const limit = request.routeOptions.bodyLimit;
  for await (const chunk of request.raw as AsyncIterable<Buffer>) {
    size += chunk.length;
    if (size > limit)
      throw new ArcticError('TOO_LARGE', `the request body is larger than ${limit / 1_024} KiB.`);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

const endToEnd = (
  headers: Readonly<Record<string, string | string[] | undefined>>,
): Record<string, string | string[]> =>
  Object.fromEntries(
    Object.entries(headers).filter(
      (entry): entry is [string, string | string[]] => entry[1] !== undefined && !NOT_FORWARDED.has(entry[0]),
    ),
  );

const neverSent = (error: unknown): boolean =>
  error instanceof errors.ConnectTimeoutError ||
  ['ECONNREFUSED', 'EHOSTUNREACH', 'ENETUNREACH', 'ENOTFOUND'].includes(codeOf(error));

const codeOf = (error: unknown): string =>
  error instanceof Error && 'code' in error ? String(error.code) : '';

function reasonOf(error: unknown): string {
  if (error instanceof errors.ConnectTimeoutError) return 'connection timeout';
  if (error instanceof errors.HeadersTimeoutError) return 'it did not answer in time';
  if (codeOf(error) === 'ECONNREFUSED') return 'connection refused';
  return error instanceof Error ? error.message : String(error);
}
