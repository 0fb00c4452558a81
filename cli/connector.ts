import {
  type ClientRequest,
  Agent as HttpAgent,
  type IncomingMessage,
  request as requestHttp,
} from 'node:http';
import { Agent as HttpsAgent, request as requestHttps } from 'node:https';

/** One request as it goes out. */
export interface Outgoing {
  readonly method: string;
  readonly url: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string | undefined;
  readonly signal: AbortSignal | undefined;
  /** Longest wait for the head of the answer once the request is sent, ms. */
  readonly headersTimeoutMs: number;
}

/** HTTP over connections that are kept while a command runs. node:http rather than undici: it is there at once, undici takes longer to load than most commands take to run. */
export interface Connector {
  /** The answer as soon as its head has come; its body is still to be read. */
  request(outgoing: Outgoing): Promise<IncomingMessage>;
  close(): void;
}

/** A wait that was too long, with a code as system errors have one. */
function lateness(code: 'CONNECT_TIMEOUT' | 'HEADERS_TIMEOUT'): Error {
  return Object.assign(new Error(code === 'CONNECT_TIMEOUT' ? 'connection timeout' : 'no answer in time'), {
    code,
  });
}

/** @param connectTimeoutMs longest wait for a connection */
export function openConnector(connectTimeoutMs: number): Connector {
  const plain = new HttpAgent({ keepAlive: true });
  const secure = new HttpsAgent({ keepAlive: true });

  const start = ({ method, url, headers, body, signal }: Outgoing): ClientRequest => {
    const isSecure = url.startsWith('https:');
    const length = body === undefined ? {} : { 'content-length': String(Buffer.byteLength(body)) };
    const options = {
      method,
      headers: { ...headers, ...length },
      agent: isSecure ? secure : plain,
      ...(signal === undefined ? {} : { signal }),
    };
    return isSecure ? requestHttps(url, options) : requestHttp(url, options);
  };

  return {
    request: (outgoing) =>
      new Promise((resolve, reject) => {
        const sent = start(outgoing);
        let timer: NodeJS.Timeout | undefined;
        const waitFor = (code: 'CONNECT_TIMEOUT' | 'HEADERS_TIMEOUT', ms: number) => {
          clearTimeout(timer);
          timer = setTimeout(() => sent.destroy(lateness(code)), ms);
        };
        const connected = () => waitFor('HEADERS_TIMEOUT', outgoing.headersTimeoutMs);
        waitFor('CONNECT_TIMEOUT', connectTimeoutMs);
        sent.once('socket', (socket) => {
          const ready = outgoing.url.startsWith('https:') ? 'secureConnect' : 'connect';
          if (socket.connecting) socket.once(ready, connected);
          else connected();
        });
        sent.once('response', (response) => {
          clearTimeout(timer);
          resolve(response);
        });
        // Stays for the whole exchange: what goes wrong later is told by the body.
        sent.on('error', (error) => {
          clearTimeout(timer);
          reject(error);
        });
        sent.end(outgoing.body);
      }),
    close() {
      plain.destroy();
      secure.destroy();
    },
  };
}
