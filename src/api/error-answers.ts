import type { FastifyError, FastifyReply, FastifyRequest } from 'fastify';
import type { Logger } from 'pino';
import { ArcticError, type ErrorDetail } from '../../events/errors.ts';

export interface ErrorBody {
  readonly error: string;
  readonly code: string;
  readonly details?: readonly ErrorDetail[];
}

export const errorBody = (error: ArcticError): ErrorBody => ({
  error: error.message,
  code: error.code,
  ...(error.details.length > 0 ? { details: error.details } : {}),
});

/** Answers every failure in the one shape. What is not a refusal is a fault of ours: logged in full, told in one line. */
export function answerError(
  logger: Logger,
  error: FastifyError | ArcticError,
  request: FastifyRequest,
  reply: FastifyReply,
): FastifyReply {
  const refusal = error instanceof ArcticError ? error : refusalOf(error, request.id);
  if (refusal.status >= 500) {
    logger.error(
      { err: error, request_id: request.id, method: request.method, path: request.url.split('?')[0] },
      'a request failed',
    );
  }
  if (refusal.code === 'UNAUTHORIZED') reply.header('www-authenticate', 'Bearer realm="arctic"');
  return reply.code(refusal.status).type('application/json; charset=utf-8').send(errorBody(refusal));
}

function refusalOf(error: FastifyError, requestId: string): ArcticError {
  switch (error.code) {
    case 'FST_ERR_CTP_BODY_TOO_LARGE':
      return new ArcticError('TOO_LARGE', 'the request body is too large; at most 1 MiB is taken.');
    case 'FST_ERR_CTP_INVALID_MEDIA_TYPE':
      return new ArcticError(
        'INVALID_REQUEST',
        'the Content-Type is not taken here; send application/json.',
        [{ pointer: 'headers/content-type', message: 'must be application/json' }],
      );
    case 'FST_ERR_CTP_INVALID_JSON_BODY':
      return malformed('it is not JSON');
    case 'FST_ERR_CTP_INVALID_CONTENT_LENGTH':
      return malformed('it is not as long as its Content-Length says');
  }
  if (error instanceof SyntaxError) return malformed(`it is not JSON (${error.message})`);
  if (error.statusCode !== undefined && error.statusCode >= 400 && error.statusCode < 500) {
    return new ArcticError('INVALID_REQUEST', error.message);
  }
  return new ArcticError(
    'INTERNAL',
    `the agent failed on this request; its log says why under request_id=${requestId}.`,
  );
}

const malformed = (why: string) =>
  new ArcticError('INVALID_REQUEST', `the request body cannot be read: ${why}.`, [
    { pointer: '', message: why },
  ]);
