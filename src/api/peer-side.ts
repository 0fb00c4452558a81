import type { Readable } from 'node:stream';
import type { FastifyRequest } from 'fastify';
import { type ApiContext, type App, actorOf } from './context.ts';
import { createPeerBodies } from './peer-body.ts';

/** `/v1/peer/*`: the raw message goes to gossip, which knows who may speak. */
export function peerSideRoutes(app: App, context: ApiContext): void {
  const bodies = createPeerBodies(context.peerSide);
  // In a scope of its own, so that bodies are not parsed here and no other route takes raw ones.
  app.register(async (scope) => {
    scope.removeAllContentTypeParsers();
    scope.addContentTypeParser('*', (request: FastifyRequest, payload: Readable) =>
      bodies.read(request.url, request.caller.address, payload),
    );
    scope.route({
      method: ['GET', 'POST'],
      url: '/v1/peer/*',
      schema: { hide: true },
      handler: async (request, reply) => {
        const answer = await context.peerSide.handle({
          method: request.method,
          path: request.url,
          headers: Object.fromEntries(
            Object.entries(request.headers).map(([name, value]) => [
              name,
              Array.isArray(value) ? value.join(', ') : value,
            ]),
          ),
          body: request.body instanceof Uint8Array ? request.body : new Uint8Array(),
          remoteAddress: actorOf(request.caller).address ?? '',
        });
        return reply.code(answer.status).headers(answer.headers).send(Buffer.from(answer.body));
      },
    });
  });
}
