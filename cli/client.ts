import type { Clock } from '../events/clock.ts';
import type { ErrorDetail } from '../events/errors.ts';
import type { Cache } from './cache.ts';
import type { Config, ConfigCluster } from './config.ts';
import { type Answer, type Exchange, type Request, Unreachable } from './exchange.ts';
import { connectionFailure, type Failure, Refusal } from './failure.ts';
import { clusterOfIdentity, type Endpoint, type Target } from './target.ts';
import type { Terminal } from './terminal.ts';

export type Query = Readonly<Record<string, string | number | boolean | undefined>>;

export interface CallOptions {
  readonly query?: Query | undefined;
  readonly body?: unknown;
  /** No credentials: the route is open to all. */
  readonly open?: boolean;
  /** Only the agent of the default peer will do: what is asked for is about that host. */
  readonly sameHost?: boolean;
  /** Do not forward, even with `--peer`. */
  readonly direct?: boolean;
  readonly headers?: Readonly<Record<string, string>>;
  /** Statuses besides 2xx that are an answer and no refusal. */
  readonly accept?: readonly number[];
}

/** The HTTP API as the commands see it. Every refusal is thrown as a `Refusal`, every silence as exit code 4. */
export interface Client {
  get(path: string, options?: CallOptions): Promise<unknown>;
  post(path: string, options?: CallOptions): Promise<unknown>;
  put(path: string, options?: CallOptions): Promise<unknown>;
  delete(path: string, options?: CallOptions): Promise<unknown>;
  /** Raw status and body, for answers whose status is the message. */
  call(
    method: Request['method'],
    path: string,
    options?: CallOptions,
  ): Promise<{ status: number; body: unknown }>;
  /** All pages of a list. */
  list(path: string, key: string, query?: Query): Promise<readonly Record<string, unknown>[]>;
  /** The same one by one, a page fetched when it is needed. */
  pages(path: string, key: string, query?: Query): AsyncIterable<Record<string, unknown>>;
  /** The bytes of an endless answer; a stream that breaks is a connection failure. */
  open(path: string, options?: CallOptions): Promise<AsyncIterable<Uint8Array>>;
  /** The agent that answered last. */
  readonly endpoint: () => Endpoint;
  /** The cluster of the configuration the requests speak for. */
  readonly cluster: () => ConfigCluster | undefined;
  close(): Promise<void>;
}

/** How requests prove who sends them. */
export type Authority =
  | { readonly kind: 'token'; readonly token: string }
  | { readonly kind: 'recovery'; readonly token: string }
  /** Client credentials of the cluster in the configuration, if it has any. */
  | { readonly kind: 'cluster' };

export interface ClientOptions {
  readonly target: Target;
  readonly config: Config;
  readonly authority: Authority;
  /** Value of `X-Arctic-Peer`. */
  readonly forwardTo: string | undefined;
  readonly version: string;
}

interface Dependencies {
  readonly exchange: Exchange;
  readonly cache: Cache;
  readonly clock: Clock;
  readonly terminal: Terminal;
}

const isRecord = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

/** A token is renewed this long before it ends, so that none ends on its way. */
const EARLY_MS = 30_000;
/** A token this young was refused for another reason than its age. */
const FRESH_MS = 10_000;
const PAGE = 500;

function parseBody(answer: Answer, base: string): unknown {
  if (answer.text === '') return undefined;
  try {
    return JSON.parse(answer.text);
  } catch {
    throw connectionFailure(
      `${base} does not answer as an Arctic agent (HTTP ${answer.status}, ${answer.contentType || 'no type'}). ` +
        'Check the address.',
    );
  }
}

function readDetails(value: unknown): readonly ErrorDetail[] {
  if (!Array.isArray(value)) return [];
  return value.flatMap((item: unknown) =>
    isRecord(item)
      ? [{ pointer: String(item['pointer'] ?? ''), message: String(item['message'] ?? '') }]
      : [],
  );
}

function refusal(status: number, body: unknown, base: string): Failure {
  if (!isRecord(body) || typeof body['error'] !== 'string')
    return connectionFailure(
      `${base} does not answer as an Arctic agent (HTTP ${status}). Check the address.`,
    );
  const code = typeof body['code'] === 'string' ? body['code'] : '';
  return new Refusal(status, code, body['error'], readDetails(body['details']));
}

const withQuery = (path: string, query: Query | undefined): string => {
  const search = new URLSearchParams();
  for (const [name, value] of Object.entries(query ?? {}))
    if (value !== undefined) search.set(name, String(value));
  const text = search.toString();
  return text === '' ? path : `${path}?${text}`;
};

export function createClient(options: ClientOptions, deps: Dependencies): Client {
  const { exchange, cache, clock, terminal } = deps;
  const { target, authority } = options;
  let cluster = target.cluster;
  let identified = !target.unknown;
  let endpoints: readonly Endpoint[] = target.endpoints;
  const first = target.endpoints[0];
  if (first === undefined) throw new TypeError('a target has at least one endpoint');
  let answered: Endpoint = first;
  let tokenFetchedAt = Number.NEGATIVE_INFINITY;

  /** Tries the endpoints in order. A request that may have been carried out is never sent twice. */
  const anywhere = async <T>(
    sameHost: boolean,
    run: (base: string) => Promise<T>,
    repeatable: boolean,
  ): Promise<T> => {
    const home = cluster?.default_peer;
    const candidates = sameHost
      ? endpoints.filter((one) => one.peerId === undefined || home === undefined || one.peerId === home)
      : endpoints;
    let failed: Unreachable | undefined;
    for (const endpoint of candidates.length > 0 ? candidates : endpoints) {
      try {
        const result = await run(endpoint.base);
        remember(endpoint, failed);
        return result;
      } catch (error) {
        if (!(error instanceof Unreachable)) throw error;
        if (!error.neverSent && !repeatable) throw error.toFailure();
        failed ??= error;
      }
    }
    if (failed === undefined) throw new TypeError('no endpoint was tried');
    if (candidates.length > 1)
      throw connectionFailure(
        `none of the ${candidates.length} endpoints of the cluster answers; ${failed.message}. ` +
          'Check that an agent runs and that its port is open, or name one with --url.',
        failed,
      );
    throw failed.toFailure();
  };

  const remember = (endpoint: Endpoint, failed: Unreachable | undefined) => {
    if (answered !== endpoint || failed !== undefined) {
      endpoints = [endpoint, ...endpoints.filter((one) => one !== endpoint)];
      answered = endpoint;
    }
    if (cluster === undefined || endpoint.peerId === undefined || target.endpoints.length < 2) return;
    if (failed !== undefined) {
      cache.keepGoodEndpoint(cluster.cluster_id, endpoint.base, clock.now());
      if (endpoint.peerId !== cluster.default_peer)
        terminal.note(`Note: ${failed.message}; asked ${endpoint.peerName ?? endpoint.base} instead.`);
    }
  };

  /** For an address the configuration does not know: whose agent is it, and have we credentials for it? */
  const identify = async (): Promise<void> => {
    if (identified) return;
    identified = true;
    if (Object.keys(options.config.clusters).length === 0) return;
    const answer = await anywhere(
      false,
      (base) =>
        exchange.send({ method: 'GET', base, path: '/v1/cluster/identity', headers: headersOf({}, false) }),
      true,
    );
    if (answer.status !== 200) return;
    const identity = parseBody(answer, answered.base);
    if (isRecord(identity)) cluster = clusterOfIdentity(options.config, identity);
  };

  const fetchToken = async (of: ConfigCluster): Promise<string> => {
    const body = new URLSearchParams({
      grant_type: 'client_credentials',
      client_id: of.client_id,
      client_secret: of.client_secret,
    }).toString();
    const headers = {
      ...headersOf({}, false),
      'content-type': 'application/x-www-form-urlencoded',
    };
    const answer = await anywhere(
      false,
      (base) => exchange.send({ method: 'POST', base, path: '/v1/oauth/token', headers, body }),
      true,
    );
    const parsed = parseBody(answer, answered.base);
    if (answer.status !== 200) throw refusal(answer.status, parsed, answered.base);
    if (!isRecord(parsed) || typeof parsed['access_token'] !== 'string')
      throw connectionFailure(`${answered.base} gave no access token. Check the address.`);
    const seconds = typeof parsed['expires_in'] === 'number' ? parsed['expires_in'] : 0;
    tokenFetchedAt = clock.now();
    cache.keepToken(of.client_id, parsed['access_token'], clock.now() + seconds * 1_000 - EARLY_MS);
    return parsed['access_token'];
  };

  const credentials = async (): Promise<Record<string, string>> => {
    if (authority.kind === 'recovery') return { 'x-arctic-recovery': authority.token };
    if (authority.kind === 'token') return { authorization: `Bearer ${authority.token}` };
    await identify();
    if (cluster === undefined) return {};
    const token = cache.token(cluster.client_id, clock.now()) ?? (await fetchToken(cluster));
    return { authorization: `Bearer ${token}` };
  };

  const headersOf = (extra: Readonly<Record<string, string>>, forward: boolean): Record<string, string> => ({
    accept: 'application/json',
    'user-agent': `arctic-cli/${options.version}`,
    ...(forward && options.forwardTo !== undefined ? { 'x-arctic-peer': options.forwardTo } : {}),
    ...extra,
  });

  const requestOf = async (
    method: Request['method'],
    path: string,
    call: CallOptions,
  ): Promise<Omit<Request, 'base'>> => {
    const proof = call.open && authority.kind !== 'recovery' ? {} : await credentials();
    return {
      method,
      path: withQuery(path, call.query),
      headers: {
        ...headersOf(call.headers ?? {}, call.direct !== true),
        ...proof,
        ...(call.body === undefined ? {} : { 'content-type': 'application/json' }),
      },
      ...(call.body === undefined ? {} : { body: JSON.stringify(call.body) }),
    };
  };

  /** A remembered token the agent no longer takes is replaced once; a 401 means that nothing was done. */
  const renewable = (status: number): boolean => {
    if (status !== 401 || authority.kind !== 'cluster' || cluster === undefined) return false;
    if (clock.now() - tokenFetchedAt < FRESH_MS) return false;
    cache.dropToken(cluster.client_id);
    return true;
  };

  const explain401 = (failure: Failure): Failure => {
    if (!(failure instanceof Refusal) || failure.status !== 401 || authority.kind !== 'cluster')
      return failure;
    if (cluster !== undefined) return failure;
    const remedy = ` The configuration holds no credentials for the agent at ${answered.base}: run 'arctic bootstrap', or use --config, --token or --recovery-token-file.`;
    return new Refusal(failure.status, failure.code, failure.message + remedy, failure.details);
  };

  const call: Client['call'] = async (method, path, how = {}) => {
    const send = async () => {
      const request = await requestOf(method, path, how);
      return anywhere(how.sameHost === true, (base) => exchange.send({ ...request, base }), method === 'GET');
    };
    let answer = await send();
    if (renewable(answer.status)) answer = await send();
    const body = parseBody(answer, answered.base);
    if ((answer.status >= 200 && answer.status < 300) || how.accept?.includes(answer.status))
      return { status: answer.status, body };
    throw explain401(refusal(answer.status, body, answered.base));
  };
  const bodyOf =
    (method: Request['method']) =>
    async (path: string, how?: CallOptions): Promise<unknown> =>
      (await call(method, path, how)).body;
  const get = bodyOf('GET');

  async function* pages(path: string, key: string, query?: Query): AsyncGenerator<Record<string, unknown>> {
    let cursor: string | undefined;
    do {
      const page = await get(path, { query: { limit: PAGE, ...query, cursor } });
      const items = isRecord(page) ? page[key] : undefined;
      if (!isRecord(page) || !Array.isArray(items))
        throw connectionFailure(`${answered.base}${path} answers without '${key}'. Is its version another?`);
      yield* items.filter(isRecord);
      const next = page['next_cursor'];
      cursor = typeof next === 'string' && next !== '' && next !== cursor ? next : undefined;
    } while (cursor !== undefined);
  }

  /** A stream that breaks in the middle says so as a connection failure. */
  async function* unbroken(bytes: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
    try {
      yield* bytes;
    } catch (error) {
      throw new Unreachable(answered.base, 'the stream broke off', false, { cause: error }).toFailure();
    }
  }

  return {
    call,
    get,
    post: bodyOf('POST'),
    put: bodyOf('PUT'),
    delete: bodyOf('DELETE'),
    pages,
    async list(path, key, query) {
      const rows: Record<string, unknown>[] = [];
      for await (const row of pages(path, key, query)) rows.push(row);
      return rows;
    },
    async open(path, how = {}) {
      const start = async () => {
        const request = await requestOf('GET', path, how);
        return anywhere(how.sameHost === true, (base) => exchange.open({ ...request, base }), true);
      };
      let answer = await start();
      if ('status' in answer && renewable(answer.status)) answer = await start();
      if ('status' in answer)
        throw explain401(refusal(answer.status, parseBody(answer, answered.base), answered.base));
      return unbroken(answer);
    },
    endpoint: () => answered,
    cluster: () => cluster,
    close: () => exchange.close(),
  };
}
