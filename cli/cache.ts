import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { writeOwnFile } from './config-file.ts';

/**
 * What the CLI remembers between two commands, beside the configuration and as private as it: access tokens until they
 * expire, and the endpoint that answered last. Losing it costs a request; so a file that cannot be read or written is
 * no error.
 */
export interface Cache {
  token(clientId: string, now: number): string | undefined;
  keepToken(clientId: string, token: string, expiresAt: number): void;
  dropToken(clientId: string): void;
  goodEndpoint(clusterId: string, now: number): string | undefined;
  keepGoodEndpoint(clusterId: string, url: string | undefined, now: number): void;
}

/** After this the default peer is tried first again. */
const GOOD_FOR_MS = 600_000;

interface Content {
  tokens: Record<string, { access_token: string; expires_at: number }>;
  endpoints: Record<string, { url: string; at: number }>;
}

const isRecord = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

function read(path: string): Content {
  const content: Content = { tokens: {}, endpoints: {} };
  let parsed: unknown;
  try {
    parsed = JSON.parse(readFileSync(path, 'utf8'));
  } catch {
    return content;
  }
  if (!isRecord(parsed)) return content;
  for (const [id, row] of Object.entries(isRecord(parsed['tokens']) ? parsed['tokens'] : {}))
    if (isRecord(row) && typeof row['access_token'] === 'string' && typeof row['expires_at'] === 'number')
      content.tokens[id] = { access_token: row['access_token'], expires_at: row['expires_at'] };
  for (const [id, row] of Object.entries(isRecord(parsed['endpoints']) ? parsed['endpoints'] : {}))
    if (isRecord(row) && typeof row['url'] === 'string' && typeof row['at'] === 'number')
      content.endpoints[id] = { url: row['url'], at: row['at'] };
  return content;
}

export const cachePath = (configPath: string): string => join(dirname(configPath), 'cache.json');

export function openCache(path: string): Cache {
  let content: Content | undefined;
  const load = () => {
    content ??= read(path);
    return content;
  };
  const change = (apply: (content: Content) => void) => {
    // Read again: another command may have written since.
    content = read(path);
    apply(content);
    try {
      writeOwnFile(path, `${JSON.stringify(content, null, 2)}\n`);
    } catch {
      // A read-only home: the next command asks for its token again.
    }
  };
  return {
    token(clientId, now) {
      const row = load().tokens[clientId];
      return row !== undefined && row.expires_at > now ? row.access_token : undefined;
    },
    keepToken: (clientId, token, expiresAt) =>
      change((next) => {
        next.tokens[clientId] = { access_token: token, expires_at: expiresAt };
      }),
    dropToken: (clientId) =>
      change((next) => {
        delete next.tokens[clientId];
      }),
    goodEndpoint(clusterId, now) {
      const row = load().endpoints[clusterId];
      return row !== undefined && now - row.at < GOOD_FOR_MS && row.at <= now ? row.url : undefined;
    },
    keepGoodEndpoint(clusterId, url, now) {
      const known = load().endpoints[clusterId];
      if (known?.url === url) return;
      change((next) => {
        if (url === undefined) delete next.endpoints[clusterId];
        else next.endpoints[clusterId] = { url, at: now };
      });
    },
  };
}
