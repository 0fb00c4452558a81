/** HTTP to a server inside a namespace, through a unix socket that a relay there serves. */
import { Agent, request } from 'undici';

export interface ApiRequest {
  /** Sent as JSON, unless it is a string (sent as it is) or URLSearchParams (sent as a form). */
  readonly body?: unknown;
  readonly headers?: Readonly<Record<string, string>>;
  /** Bearer token. */
  readonly token?: string;
  /** Milliseconds; 30,000 by default. */
  readonly timeout?: number;
}

export interface ApiResponse {
  readonly status: number;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  readonly text: string;
  /** The body parsed as JSON. Throws when it is none. */
  json<T = unknown>(): T;
}

export interface ApiClient {
  /** For streams and anything else undici offers; the origin's host name is only put into the Host header. */
  readonly dispatcher: Agent;
  request(method: string, path: string, options?: ApiRequest): Promise<ApiResponse>;
  close(): Promise<void>;
}

function encode(body: unknown): { readonly type?: string; readonly content?: string } {
  if (body === undefined) return {};
  if (body instanceof URLSearchParams) {
    return { type: 'application/x-www-form-urlencoded', content: body.toString() };
  }
  return { type: 'application/json', content: typeof body === 'string' ? body : JSON.stringify(body) };
}

export function createApiClient(socketPath: string, origin: string): ApiClient {
  const dispatcher = new Agent({ connect: { socketPath } });
  return {
    dispatcher,
    async request(method, path, options = {}) {
      const { type, content } = encode(options.body);
      const limit = options.timeout ?? 30_000;
      const response = await request(new URL(path, origin), {
        method: method as 'GET',
        dispatcher,
        headers: {
          ...(type === undefined ? {} : { 'content-type': type }),
          ...(options.token === undefined ? {} : { authorization: `Bearer ${options.token}` }),
          ...options.headers,
        },
        ...(content === undefined ? {} : { body: content }),
        headersTimeout: limit,
        bodyTimeout: limit,
      });
      const text = await response.body.text();
      return {
        status: response.statusCode,
        headers: response.headers,
        text,
        json: <T>() => JSON.parse(text) as T,
      };
    },
    close: () => dispatcher.destroy(),
  };
}
