import { createHash } from 'node:crypto';
import type { TypeBoxTypeProvider } from '@fastify/type-provider-typebox';
import type {
  FastifyBaseLogger,
  FastifyInstance,
  FastifyRequest,
  RawReplyDefaultExpression,
  RawRequestDefaultExpression,
  RawServerDefault,
} from 'fastify';
import type { TSchema } from 'typebox';
import type { ClientId } from '../../events/brand.ts';
import type { Actor } from '../../events/envelope.ts';
import { ArcticError } from '../../events/errors.ts';
import type { Views } from '../../projections/views.ts';
import type { CommandRequest } from '../commands/execute.ts';
import type { Scope } from '../commands/scopes.ts';
import type { Tokens } from '../identity/tokens.ts';
import type { CredentialUse } from './credential-use.ts';
import type { ApiDeps, ApiOptions } from './ports.ts';

/** Who sent a request, settled before its body is read. */
export interface Caller {
  readonly kind: 'client' | 'recovery' | 'anonymous';
  readonly clientId: ClientId | null;
  readonly scopes: readonly Scope[];
  /** When the token ends, milliseconds since the epoch; null without one. */
  readonly expiresAt: number | null;
  /** Source IP address; behind a forwarding member, that of the first hop. */
  readonly address: string;
}

declare module 'fastify' {
  interface FastifyRequest {
    caller: Caller;
  }
}

export type App = FastifyInstance<
  RawServerDefault,
  RawRequestDefaultExpression,
  RawReplyDefaultExpression,
  FastifyBaseLogger,
  TypeBoxTypeProvider
>;

/** What every plugin of the API gets. */
export interface ApiContext extends ApiDeps {
  readonly options: ApiOptions;
  readonly views: Views;
  readonly tokens: Tokens;
  readonly credentialUse: CredentialUse;
}

/** Adds the answers to a route's schema for the OpenAPI document; what is sent is tested against them, not filtered. */
export const documented = <S extends object>(schema: S, answers: Readonly<Record<number, TSchema>>): S => ({
  ...schema,
  response: answers,
});

export const actorOf = (caller: Caller): Actor => ({
  kind: caller.kind === 'anonymous' ? 'system' : caller.kind,
  id: caller.clientId,
  address: caller.address,
});

/** The conditions a request puts on its command. `entity` is what an If-Match is about. */
export function commandOf(request: FastifyRequest, entity?: string): CommandRequest {
  return {
    actor: actorOf(request.caller),
    correlationId: request.id,
    idempotencyKey: idempotencyKeyOf(request),
    expected: expectedOf(request, entity),
    fence: fenceOf(request),
  };
}

/** Bound to caller, method and path, so that a key of one client or request never answers another. */
function idempotencyKeyOf(request: FastifyRequest): string | undefined {
  const key = request.headers['idempotency-key'];
  if (key === undefined) return undefined;
  if (typeof key !== 'string' || !/^[\x21-\x7e]{1,200}$/.test(key)) {
    throw badHeader('Idempotency-Key', 'must be 1 to 200 printable characters');
  }
  const { kind, clientId } = request.caller;
  const [path] = request.url.split('?');
  return createHash('sha256')
    .update(JSON.stringify([kind, clientId, request.method, path, key]))
    .digest('hex');
}

function expectedOf(request: FastifyRequest, entity: string | undefined): CommandRequest['expected'] {
  const header = request.headers['if-match'];
  if (header === undefined || header === '*' || entity === undefined) return undefined;
  const version = /^(?:W\/)?"?(\d{1,15})"?$/.exec(header)?.[1];
  if (version === undefined) throw badHeader('If-Match', 'must be one version, as the ETag gave it');
  return { entity, version: Number(version) };
}

function fenceOf(request: FastifyRequest): number | undefined {
  const header = request.headers['x-arctic-fence'];
  if (header === undefined) return undefined;
  if (typeof header !== 'string' || !/^[1-9]\d{0,14}$/.test(header)) {
    throw badHeader('X-Arctic-Fence', 'must be the fence number of the lock');
  }
  return Number(header);
}

const badHeader = (name: string, message: string) =>
  new ArcticError('INVALID_REQUEST', `the header ${name} ${message}.`, [
    { pointer: `headers/${name.toLowerCase()}`, message },
  ]);

export const etag = (version: number): string => `"${version}"`;
export const isoTime = (ms: number): string => new Date(ms).toISOString();
