import { Agent, type buildConnector, errors, request } from 'undici';
import type { TransportFault } from './failures.ts';
import type { PostOutcome, Transport } from './machine/core.ts';
import { MAX_BODY } from './parameters.ts';

export interface HttpTransport extends Transport {
  /** Closes every connection; requests under way fail. */
  close(): Promise<void>;
}

/** Connections to one endpoint: a long pull must not hold up heartbeats and pushes. */
const CONNECTIONS = 4;
/** Idle connections are kept longer than a default heartbeat, so that a quiet cluster does not reconnect, ms. */
const KEEP_ALIVE = 30_000;

const BY_CODE: Readonly<Record<string, TransportFault>> = {
  ECONNREFUSED: 'refused',
  ETIMEDOUT: 'timeout',
  UND_ERR_CONNECT_TIMEOUT: 'timeout',
  UND_ERR_HEADERS_TIMEOUT: 'timeout',
  UND_ERR_BODY_TIMEOUT: 'timeout',
  ENOTFOUND: 'not_found',
  EAI_AGAIN: 'not_found',
  EHOSTUNREACH: 'no_route',
  ENETUNREACH: 'no_route',
  EADDRNOTAVAIL: 'no_route',
  UND_ERR_RES_EXCEEDED_MAX_SIZE: 'too_large',
};

/** A fault of the way to the host: another URL of the same host and port would meet it too. */
const BELOW_HTTP: ReadonlySet<TransportFault> = new Set(['refused', 'timeout', 'not_found', 'no_route']);

function faultOf(error: unknown): TransportFault {
  if (error instanceof AggregateError) {
    // Happy eyeballs: one error an address; a refusal says more than a missing route.
    const faults = error.errors.map(faultOf);
    return (['refused', 'timeout'] as const).find((fault) => faults.includes(fault)) ?? faults[0] ?? 'reset';
  }
  if (!(error instanceof Error)) return 'reset';
  if (error.name === 'TimeoutError') return 'timeout';
  const code = 'code' in error && typeof error.code === 'string' ? error.code : '';
  const known = BY_CODE[code];
  if (known !== undefined) return known;
  if (error instanceof errors.HTTPParserError || code.startsWith('ERR_SSL') || code === 'EPROTO')
    return 'not_arctic';
  return error.cause === undefined ? 'reset' : faultOf(error.cause);
}

const authority = (endpoint: string): string => endpoint.replace(/^https?:\/\//, '');

/** Requests to other agents over pooled HTTP connections. */
export function createHttpTransport(
  options: {
    /** Another way to open connections, such as one that marks its sockets. */ readonly connect?: buildConnector.connector;
  } = {},
): HttpTransport {
  const agent = new Agent({
    connections: CONNECTIONS,
    keepAliveTimeout: KEEP_ALIVE,
    keepAliveMaxTimeout: KEEP_ALIVE,
    maxResponseSize: MAX_BODY,
    // Who answers is proved by the handshake and the sealed answers, not by a certificate's name.
    connect: options.connect ?? { rejectUnauthorized: false, timeout: 5_000 },
  });

  const postOnce = async (
    endpoint: string,
    options: Parameters<Transport['post']>[0],
  ): Promise<PostOutcome> => {
    try {
      const response = await request(new URL(options.path, endpoint), {
        dispatcher: agent,
        method: 'POST',
        headers: { 'content-type': options.contentType },
        body: options.body,
        signal: AbortSignal.timeout(options.timeoutMs),
      });
      const body = new Uint8Array(await response.body.arrayBuffer());
      return { kind: 'answer', status: response.statusCode, body, endpoint };
    } catch (error) {
      return { kind: 'fault', fault: faultOf(error) };
    }
  };

  const post = async (options: Parameters<Transport['post']>[0]): Promise<PostOutcome> => {
    const dead = new Set<string>();
    let first: PostOutcome | undefined;
    for (const endpoint of options.endpoints) {
      if (dead.has(authority(endpoint))) continue;
      const outcome = await postOnce(endpoint, options);
      if (outcome.kind === 'answer') return outcome;
      if (BELOW_HTTP.has(outcome.fault)) dead.add(authority(endpoint));
      first ??= outcome;
    }
    return first ?? { kind: 'fault', fault: 'no_route' };
  };

  return {
    post(options, done) {
      void post(options).then(done);
    },
    async close() {
      await agent.destroy();
    },
  };
}
