import { type ApiContext, type App, actorOf } from './context.ts';

/** A full page of events in one message; gossip has its own, smaller bounds on what it sends. */
const MESSAGE_LIMIT_BYTES = 8 * 1_048_576;

/** `/v1/peer/*`: the raw message goes to gossip, which knows who may speak. */
export function peerSideRoutes(app: App, context: ApiContext): void {
  // In a scope of its own, so that bodies are not parsed here and no other route takes raw ones.
  app.register(async (scope) => {
    scope.removeAllContentTypeParsers();
    scope.addContentTypeParser(
      '*',
      { parseAs: 'buffer', bodyLimit: MESSAGE_LIMIT_BYTES },
      async (_request: unknown, body: unknown) => body,
    );
    scope.route({
      method: ['GET', 'POST'],
      url: '/v1/peer/*',
      bodyLimit: MESSAGE_LIMIT_BYTES,
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
