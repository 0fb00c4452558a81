import { existsSync } from 'node:fs';
import { createServer as createHttpServer, type Server } from 'node:http';
import { createServer as createHttpsServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import swagger from '@fastify/swagger';
import type { TypeBoxTypeProvider } from '@fastify/type-provider-typebox';
import Fastify, { type FastifyError } from 'fastify';
import { ArcticError } from '../../events/errors.ts';
import { newCorrelationId } from '../../events/ids.ts';
import { isMember } from '../commands/peers.ts';
import { createTokens } from '../identity/tokens.ts';
import { accessOf } from './access.ts';
import { auditRoutes } from './audit.ts';
import { bootstrapRoutes } from './bootstrap.ts';
import { changeRoutes } from './changes.ts';
import { clusterRoutes } from './cluster.ts';
import { limitConnections } from './connections.ts';
import type { ApiContext, App } from './context.ts';
import { createCredentialUse } from './credential-use.ts';
import { credentialRoutes } from './credentials.ts';
import { driftRoutes } from './drift.ts';
import { answerError, errorBody } from './error-answers.ts';
import { createEventRows } from './event-rows.ts';
import { createEventStreams } from './event-stream.ts';
import { eventRoutes } from './events.ts';
import { createGatekeeper } from './gatekeeper.ts';
import { healthRoutes } from './health.ts';
import { metricRoutes } from './metrics.ts';
import { oauthRoutes } from './oauth.ts';
import { openApiOptions } from './openapi.ts';
import { peerSideRoutes } from './peer-side.ts';
import { peerRoutes } from './peers.ts';
import type { ApiDeps, ApiOptions } from './ports.ts';
import { replayRoutes } from './replay.ts';
import { routeRoutes } from './service-routes.ts';
import { serviceRoutes } from './services.ts';
import { trafficRoutes } from './traffic.ts';
import { validatorCompiler } from './validation.ts';

/** Is there when the kernel has IPv6 (proc_pid_net(5)). */
const IPV6_ADDRESSES = '/proc/net/if_inet6';
const BODY_LIMIT_BYTES = 1_048_576;
/** A whole request must have come by then: what a slow-drip client can hold. */
const REQUEST_TIMEOUT_MS = 30_000;
const HEADERS_TIMEOUT_MS = 15_000;
const KEEP_ALIVE_MS = 75_000;
/** Requests under way get so long to finish when the agent stops. */
const STOP_GRACE_MS = 5_000;
/** How often the two limits above are enforced; the default of 30 s would double them. */
const CONNECTIONS_CHECK_MS = 2_000;

export interface Api {
  /** Fastify's own object, for `inject` and for more plugins before `start`. */
  readonly app: App;
  /** Listens; gives where. Refuses with UNAVAILABLE, naming the port and its setting, when it cannot. */
  start(): Promise<{ readonly host: string; readonly port: number }>;
  /** Ends event streams, lets requests under way finish, and closes. */
  stop(): Promise<void>;
}

/** The HTTP API of one agent. Nothing listens before `start()`. */
export function createApi(options: ApiOptions, deps: ApiDeps): Api {
  const { clock, ids, logger, log, identity, executor, projections } = deps;
  const { views } = projections;
  const context: ApiContext = {
    ...deps,
    options,
    views,
    tokens: createTokens({
      identity,
      clock,
      ids,
      issuers: () => views.peers.list().filter((peer) => isMember(peer) || peer.id === identity.peerId),
    }),
    credentialUse: createCredentialUse({ clock, log, executor, logger }),
  };
  const rows = createEventRows({ log, projections });
  const streams = createEventStreams({ log, rows, clock });
  const app = createFastify(options, context);
  const admit = createGatekeeper(context);

  app.decorateRequest('caller', null as never);
  app.addHook('onRequest', async (request, reply) => {
    reply.header('x-request-id', request.id);
    return admit(request, reply);
  });
  app.addHook('onRoute', ({ method, url }) => {
    for (const one of [method].flat()) {
      if (accessOf(one, url) === undefined) throw new Error(`${one} ${url} has no row in the access table`);
    }
  });
  app.addHook('onResponse', async (request, reply) => {
    const { caller } = request;
    const line = {
      method: request.method,
      path: request.url.split('?')[0],
      status: reply.statusCode,
      ms: Math.round(reply.elapsedTime * 10) / 10,
      client: caller?.clientId ?? caller?.kind,
      address: caller?.address,
      request_id: request.id,
    };
    if (request.method === 'GET' || request.method === 'HEAD' || request.url.startsWith('/v1/peer/')) {
      logger.debug(line, 'request');
    } else {
      logger.info(line, 'request');
    }
  });
  app.addHook('preClose', async () => streams.close());

  app.register(swagger, openApiOptions(options.version));
  app.register(async (scope) => {
    const routes = scope.withTypeProvider<TypeBoxTypeProvider>();
    metricRoutes(routes, context);
    healthRoutes(routes, context);
    bootstrapRoutes(routes, context);
    oauthRoutes(routes, context);
    peerRoutes(routes, context);
    serviceRoutes(routes, context);
    routeRoutes(routes, context);
    changeRoutes(routes, context);
    credentialRoutes(routes, context);
    clusterRoutes(routes, context);
    eventRoutes(routes, context, rows, streams);
    replayRoutes(routes, context);
    driftRoutes(routes, context);
    trafficRoutes(routes, context);
    auditRoutes(routes, context);
    peerSideRoutes(routes, context);
    routes.get('/v1/openapi.json', { schema: { hide: true } }, () => app.swagger());
  });

  return {
    app,
    async start() {
      try {
        // A kernel without IPv6 has no dual-stack socket; the default address must still start there.
        const host = options.host === '::' && !existsSync(IPV6_ADDRESSES) ? '0.0.0.0' : options.host;
        await app.listen({ host, port: options.port, backlog: 4_096 });
      } catch (error) {
        throw listenRefusal(options, error);
      }
      const { address, port } = app.server.address() as AddressInfo;
      logger.info({ address, port, tls: options.tls !== undefined }, 'the API is listening');
      return { host: address, port };
    },
    async stop() {
      const cancel = clock.after(STOP_GRACE_MS, () => app.server.closeAllConnections());
      try {
        await app.close();
      } finally {
        cancel();
      }
    },
  };
}

function createFastify(options: ApiOptions, context: ApiContext): App {
  const { clock, ids, logger } = context;
  const app = Fastify({
    logger: false,
    bodyLimit: BODY_LIMIT_BYTES,
    forceCloseConnections: 'idle',
    return503OnClosing: false,
    genReqId: (request) => {
      const given = request.headers['x-request-id'];
      return typeof given === 'string' && /^[A-Za-z0-9._:-]{1,100}$/.test(given)
        ? given
        : newCorrelationId(ids);
    },
    serverFactory: (handler) => {
      const limits = {
        requestTimeout: REQUEST_TIMEOUT_MS,
        headersTimeout: HEADERS_TIMEOUT_MS,
        keepAliveTimeout: KEEP_ALIVE_MS,
        connectionsCheckingInterval: CONNECTIONS_CHECK_MS,
      };
      // Fastify asks of a server what node:http and node:https share; only its types tell the two apart.
      const server =
        options.tls === undefined
          ? createHttpServer(limits, handler)
          : (createHttpsServer(
              { ...limits, ...options.tls, minVersion: 'TLSv1.2' },
              handler,
            ) as unknown as Server);
      limitConnections(server, { clock, warn: (fields, text) => logger.warn(fields, text) });
      return server;
    },
    clientErrorHandler: (error, socket) => {
      if (error.code === 'ECONNRESET' || !socket.writable) return;
      const body = JSON.stringify(
        errorBody(
          new ArcticError('INVALID_REQUEST', `this is not an HTTP request that can be read (${error.code}).`),
        ),
      );
      socket.end(
        `HTTP/1.1 400 Bad Request\r\nContent-Type: application/json; charset=utf-8\r\nContent-Length: ${Buffer.byteLength(body)}\r\nConnection: close\r\n\r\n${body}`,
      );
    },
    frameworkErrors: (error, request, reply) => answerError(logger, error, request, reply),
  }).withTypeProvider<TypeBoxTypeProvider>();

  app.setValidatorCompiler(validatorCompiler);
  app.setSerializerCompiler(() => (data) => JSON.stringify(data));
  app.setErrorHandler<FastifyError | ArcticError>((error, request, reply) =>
    answerError(logger, error, request, reply),
  );
  app.setNotFoundHandler((request, reply) =>
    reply
      .code(404)
      .send(
        errorBody(
          new ArcticError(
            'NOT_FOUND',
            `there is no ${request.method} ${request.url.split('?')[0]}; the API is described at /v1/openapi.json.`,
          ),
        ),
      ),
  );
  const parseJson = app.getDefaultJsonParser('error', 'error');
  app.removeContentTypeParser('text/plain');
  app.addContentTypeParser('application/json', { parseAs: 'string' }, (request, body, done) => {
    // Clients that always send the header also send it with nothing.
    if (body === '') done(null, undefined);
    else parseJson(request, body as string, done);
  });
  return app;
}

function listenRefusal(options: ApiOptions, error: unknown): unknown {
  const code = error instanceof Error && 'code' in error ? error.code : undefined;
  const where = `${options.host.includes(':') ? `[${options.host}]` : options.host}:${options.port}`;
  const why =
    code === 'EADDRINUSE'
      ? 'another process listens there; stop it, or set API_PORT to a free port'
      : code === 'EACCES'
        ? 'not permitted; run the agent as root, or set API_PORT to 1024 or more'
        : code === 'EADDRNOTAVAIL' || code === 'EAFNOSUPPORT'
          ? 'this host does not have that address; set API_BIND to one it has'
          : undefined;
  if (why === undefined) return error;
  return new ArcticError('UNAVAILABLE', `the API cannot listen on ${where}: ${why}.`, [], { cause: error });
}
