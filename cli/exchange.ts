import type { IncomingHttpHeaders, IncomingMessage } from 'node:http';
import type { Clock } from '../events/clock.ts';
import { openConnector } from './connector.ts';
import { connectionFailure, errorCode, type Failure } from './failure.ts';
import { maskBody, maskHeader } from './masking.ts';
import type { Terminal } from './terminal.ts';

/** One HTTP request to one agent. */
export interface Request {
  readonly method: 'GET' | 'POST' | 'PUT' | 'DELETE';
  readonly base: string;
  /** Path with its query. */
  readonly path: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body?: string;
}

export interface Answer {
  readonly status: number;
  readonly contentType: string;
  readonly text: string;
}

export interface Exchange {
  send(request: Request): Promise<Answer>;
  /** The body as it comes, for an endless answer; a refusal is read whole. */
  open(request: Request): Promise<Answer | AsyncIterable<Uint8Array>>;
  close(): Promise<void>;
}

export interface ExchangeOptions {
  readonly timeoutMs: number;
  readonly debug: boolean;
  readonly trace: boolean;
}

/** Longest wait for a connection: an agent on the far side of the world answers in well under this. */
const CONNECT_MS = 5_000;
/** After this a person at a terminal is told what is being waited for. */
const QUIET_MS = 1_000;

const reasons: Readonly<Record<string, string>> = {
  ECONNREFUSED: 'connection refused',
  ECONNRESET: 'the connection was closed by the other side',
  EPIPE: 'the connection was closed by the other side',
  EHOSTUNREACH: 'no route to the host',
  ENETUNREACH: 'the network is unreachable',
  ENOTFOUND: 'the name does not resolve',
  EAI_AGAIN: 'the name server does not answer',
  ETIMEDOUT: 'connection timeout',
  CONNECT_TIMEOUT: 'connection timeout',
  HEADERS_TIMEOUT: 'no answer in time',
  ERR_SSL_WRONG_VERSION_NUMBER: 'it does not speak TLS; try http://',
  EPROTO: 'it does not speak TLS; try http://',
  ERR_INVALID_URL: 'the URL is not valid',
};

/** The request never left this host, so sending it elsewhere cannot do it twice. */
const NEVER_SENT = new Set([
  'ECONNREFUSED',
  'EHOSTUNREACH',
  'ENETUNREACH',
  'ENOTFOUND',
  'EAI_AGAIN',
  'ETIMEDOUT',
  'CONNECT_TIMEOUT',
]);

/** What went wrong between this host and an agent. */
export class Unreachable extends Error {
  readonly base: string;
  readonly reason: string;
  readonly neverSent: boolean;

  constructor(base: string, reason: string, neverSent: boolean, options: ErrorOptions) {
    super(`${base}: ${reason}`, options);
    this.name = 'Unreachable';
    this.base = base;
    this.reason = reason;
    this.neverSent = neverSent;
  }

  toFailure(): Failure {
    return connectionFailure(
      `cannot reach the agent at ${this.base}: ${this.reason}. Check on that host that it runs ` +
        `('systemctl status arctic') and that its port is open, or name another agent with --url.`,
      this,
    );
  }
}

function unreachable(base: string, error: unknown, timeoutMs: number): Unreachable {
  const code = errorCode(error) ?? '';
  const timedOut = error instanceof Error && (error.name === 'TimeoutError' || error.name === 'AbortError');
  const reason = timedOut
    ? `no answer within ${timeoutMs} ms`
    : code.startsWith('HPE_')
      ? 'it does not speak HTTP'
      : (reasons[code] ?? (error instanceof Error ? error.message : String(error)));
  return new Unreachable(base, reason, NEVER_SENT.has(code), { cause: error });
}

export function createExchange(
  options: ExchangeOptions,
  deps: { terminal: Terminal; clock: Clock },
): Exchange {
  const { terminal, clock } = deps;
  const connector = openConnector(Math.min(CONNECT_MS, options.timeoutMs));

  const traceRequest = (request: Request) => {
    if (!options.trace) return;
    terminal.note(`> ${request.method} ${request.base}${request.path}`);
    for (const [name, value] of Object.entries(request.headers))
      terminal.note(`> ${name}: ${maskHeader(name, value)}`);
    const body = maskBody(request.body ?? '', request.headers['content-type'] ?? '');
    for (const line of body === '' ? [] : ['', ...body.split('\n')]) terminal.note(`> ${line}`.trimEnd());
  };
  const traceAnswer = (answer: Answer, headers: IncomingHttpHeaders) => {
    if (!options.trace) return;
    terminal.note(`< ${answer.status}`);
    for (const [name, value] of Object.entries(headers))
      terminal.note(
        `< ${name}: ${maskHeader(name, Array.isArray(value) ? value.join(', ') : (value ?? ''))}`,
      );
    const body = maskBody(answer.text, answer.contentType);
    for (const line of body === '' ? [] : ['', ...body.split('\n')]) terminal.note(`< ${line}`.trimEnd());
  };

  /** Shows what is waited for once it takes longer than a person expects. */
  const whileWaiting = (request: Request): (() => void) => {
    const began = clock.monotonic();
    let cancel = () => {};
    const show = () => {
      const seconds = Math.round((clock.monotonic() - began) / 1_000);
      terminal.status(`waiting for ${request.base} ... ${seconds} s`);
      cancel = clock.after(1_000, show);
    };
    cancel = clock.after(QUIET_MS, show);
    return () => {
      cancel();
      terminal.status('');
    };
  };

  const start = (request: Request, signal: AbortSignal | undefined): Promise<IncomingMessage> =>
    connector.request({
      method: request.method,
      url: request.base + request.path,
      headers: request.headers,
      body: request.body,
      signal,
      headersTimeoutMs: options.timeoutMs,
    });

  const readWhole = async (response: IncomingMessage): Promise<Answer> => {
    const chunks: Buffer[] = [];
    for await (const chunk of response) chunks.push(Buffer.from(chunk));
    const answer = {
      status: response.statusCode ?? 0,
      contentType: response.headers['content-type'] ?? '',
      text: Buffer.concat(chunks).toString('utf8'),
    };
    traceAnswer(answer, response.headers);
    return answer;
  };

  const observed = async <T>(request: Request, run: () => Promise<{ status: number; result: T }>) => {
    const began = clock.monotonic();
    const done = whileWaiting(request);
    traceRequest(request);
    const log = (outcome: string) => {
      if (options.debug)
        terminal.note(
          `debug: ${request.method} ${request.base}${request.path} ${outcome} ` +
            `${(clock.monotonic() - began).toFixed(0)} ms`,
        );
    };
    try {
      const { status, result } = await run();
      done();
      log(String(status));
      return result;
    } catch (error) {
      done();
      const failure = unreachable(request.base, error, options.timeoutMs);
      log(`failed (${failure.reason})`);
      throw failure;
    }
  };

  return {
    send: (request) =>
      observed(request, async () => {
        const answer = await readWhole(await start(request, AbortSignal.timeout(options.timeoutMs)));
        return { status: answer.status, result: answer };
      }),
    open: (request) =>
      observed<Answer | AsyncIterable<Uint8Array>>(request, async () => {
        // Only the wait for the head is bounded; the body goes on for as long as the person watches.
        const response = await start(request, undefined);
        if (response.statusCode === 200) return { status: 200, result: response };
        const answer = await readWhole(response);
        return { status: answer.status, result: answer };
      }),
    close: async () => connector.close(),
  };
}
