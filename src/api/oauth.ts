import formbody from '@fastify/formbody';
import type { TypeBoxTypeProvider } from '@fastify/type-provider-typebox';
import type { FastifyRequest } from 'fastify';
import { ArcticError } from '../../events/errors.ts';
import { parseClientId } from '../../events/ids.ts';
import { covers, parseScopes, SCOPES } from '../commands/scopes.ts';
import { secretMatches } from '../identity/secrets.ts';
import { TOKEN_SECONDS } from '../identity/tokens.ts';
import { networkOf } from './connections.ts';
import { type ApiContext, type App, documented } from './context.ts';
import { createRateLimit } from './rate-limit.ts';
import { KeySet, ServerMetadata, TokenAnswer, TokenBody } from './schemas/oauth.ts';

const FORM_LIMIT_BYTES = 16_384;
/**
 * A secret has 256 bits, so this protects the agent's time, not the secret. An address may come with a fleet of CLIs
 * behind it; one client at one address has no reason for more than a token now and then.
 */
const PER_ADDRESS = { burst: 60, perSecond: 2, maxKeys: 10_000 } as const;
const PER_CLIENT = { burst: 30, perSecond: 1, maxKeys: 10_000 } as const;

/** `POST /v1/oauth/token` (RFC 6749 4.4) and what describes it (RFC 8414, RFC 7517). */
export function oauthRoutes(app: App, context: ApiContext): void {
  const { clock, tokens, views, identity } = context;
  const perAddress = createRateLimit(PER_ADDRESS, { clock });
  const perClient = createRateLimit(PER_CLIENT, { clock });

  app.get(
    '/.well-known/openid-configuration',
    { schema: documented({}, { 200: ServerMetadata }) },
    (request) => {
      const base = `${request.protocol}://${request.host}`;
      return {
        issuer: identity.peerId,
        token_endpoint: `${base}/v1/oauth/token`,
        jwks_uri: `${base}/.well-known/jwks.json`,
        grant_types_supported: ['client_credentials'],
        response_types_supported: [],
        subject_types_supported: ['public'],
        token_endpoint_auth_methods_supported: ['client_secret_basic', 'client_secret_post'],
        id_token_signing_alg_values_supported: ['EdDSA'],
        scopes_supported: SCOPES,
      };
    },
  );

  app.get('/.well-known/jwks.json', { schema: documented({}, { 200: KeySet }) }, () => tokens.keys());

  // In a scope of its own, so that no other route takes forms.
  app.register(async (scope) => {
    await scope.register(formbody, { bodyLimit: FORM_LIMIT_BYTES });
    scope.removeContentTypeParser('application/json');
    scope
      .withTypeProvider<TypeBoxTypeProvider>()
      .post(
        '/v1/oauth/token',
        { bodyLimit: FORM_LIMIT_BYTES, schema: documented({ body: TokenBody }, { 200: TokenAnswer }) },
        (request, reply) => {
          const { address } = request.caller;
          const { clientId, secret } = clientOf(request, request.body);
          const wait = Math.max(
            perAddress.take(networkOf(address)),
            perClient.take(`${clientId} ${networkOf(address)}`),
          );
          if (wait > 0) {
            reply.header('retry-after', String(wait));
            throw new ArcticError('RATE_LIMITED', `too many token requests; try again in ${wait} s.`);
          }
          if (request.body.grant_type !== 'client_credentials') {
            throw fault('grant_type', 'must be client_credentials');
          }
          const id = parseClientId(clientId);
          const credential = id && views.credentials.get(id);
          const matches = secretMatches(secret, credential, clock.now());
          if (credential === undefined || credential.revoked || !matches) {
            throw new ArcticError(
              'UNAUTHORIZED',
              'the client id or the client secret is wrong, or the credential was revoked.',
            );
          }
          const held = parseScopes(credential.scopes, '');
          const asked = request.body.scope?.split(' ').filter((one) => one !== '');
          const scopes = asked === undefined || asked.length === 0 ? held : parseScopes(asked, '/scope');
          const wider = scopes.filter((one) => !covers(held, one));
          if (wider.length > 0) {
            throw new ArcticError(
              'FORBIDDEN',
              `${credential.client_id} does not have the scope ${wider.join(', ')}; it has ${held.join(', ')}.`,
              [{ pointer: '/scope', message: 'is wider than the credential' }],
            );
          }
          context.credentialUse.note(credential.client_id, { address, correlationId: request.id });
          // RFC 6749 5.1: nobody on the way may keep it.
          return reply.headers({ 'cache-control': 'no-store', pragma: 'no-cache' }).send({
            access_token: tokens.issue(credential.client_id, scopes),
            token_type: 'Bearer',
            expires_in: TOKEN_SECONDS,
            scope: scopes.join(' '),
          });
        },
      );
  });
}

/** From HTTP Basic (RFC 6749 2.3.1: each part form-encoded) or from the form; not from both. */
function clientOf(
  request: FastifyRequest,
  body: { readonly client_id?: string; readonly client_secret?: string },
): { readonly clientId: string; readonly secret: string } {
  const { authorization } = request.headers;
  if (authorization === undefined) {
    if (body.client_id === undefined) throw fault('client_id', 'is required');
    if (body.client_secret === undefined) throw fault('client_secret', 'is required');
    return { clientId: body.client_id, secret: body.client_secret };
  }
  if (body.client_secret !== undefined) {
    throw fault('client_secret', 'stands in the form and in the Authorization header; send it once');
  }
  const encoded = /^Basic ([A-Za-z0-9+/]+=*)$/i.exec(authorization)?.[1];
  const text = Buffer.from(encoded ?? '', 'base64').toString('utf8');
  const colon = text.indexOf(':');
  if (encoded === undefined || colon === -1) {
    throw new ArcticError('UNAUTHORIZED', 'the Authorization header of a token request must be HTTP Basic.');
  }
  try {
    const decode = (part: string) => decodeURIComponent(part.replaceAll('+', ' '));
    return { clientId: decode(text.slice(0, colon)), secret: decode(text.slice(colon + 1)) };
  } catch {
    throw new ArcticError('UNAUTHORIZED', 'the Authorization header of a token request is not well formed.');
  }
}

const fault = (field: string, message: string) =>
  new ArcticError('INVALID_REQUEST', `${field} ${message}.`, [{ pointer: `/${field}`, message }]);
