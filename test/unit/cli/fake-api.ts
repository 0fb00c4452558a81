import { createServer, type IncomingMessage, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';

/** A small HTTP server that plays the API with the answers a test gives it, and keeps what it was asked. */
export interface Asked {
  readonly method: string;
  readonly path: string;
  readonly query: URLSearchParams;
  readonly headers: IncomingMessage['headers'];
  readonly body: string;
}

export interface Reply {
  readonly status?: number;
  readonly body?: unknown;
  readonly text?: string;
  readonly type?: string;
}

/** Answers by `METHOD /path`; a function sees the request. */
export type Replies = Record<string, Reply | ((asked: Asked) => Reply)>;

export interface FakeApi {
  readonly url: string;
  readonly asked: Asked[];
  readonly replies: Replies;
  close(): Promise<void>;
}

export const TOKEN = 'eyJhbGciOiJFZERTQSJ9.secret-access-token.signature';

const standard: Replies = {
  'POST /v1/oauth/token': {
    body: { access_token: TOKEN, token_type: 'Bearer', expires_in: 3600, scope: 'admin' },
  },
};

export async function startFakeApi(replies: Replies = {}): Promise<FakeApi> {
  const asked: Asked[] = [];
  const table: Replies = { ...standard, ...replies };
  const server: Server = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on('data', (chunk: Buffer) => chunks.push(chunk));
    request.on('end', () => {
      const url = new URL(request.url ?? '/', 'http://fake');
      const one: Asked = {
        method: request.method ?? '',
        path: url.pathname,
        query: url.searchParams,
        headers: request.headers,
        body: Buffer.concat(chunks).toString('utf8'),
      };
      asked.push(one);
      const row = table[`${one.method} ${one.path}`];
      const reply: Reply =
        row === undefined
          ? { status: 404, body: { error: `there is no ${one.method} ${one.path}.`, code: 'NOT_FOUND' } }
          : typeof row === 'function'
            ? row(one)
            : row;
      response.writeHead(reply.status ?? 200, { 'content-type': reply.type ?? 'application/json' });
      response.end(reply.text ?? (reply.body === undefined ? '' : JSON.stringify(reply.body)));
    });
  });
  await new Promise<void>((resolve) => {
    server.listen(0, '127.0.0.1', resolve);
  });
  const { port } = server.address() as AddressInfo;
  return {
    url: `http://127.0.0.1:${port}`,
    asked,
    replies: table,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}
