import { Type } from 'typebox';
import type { ClientId } from '../../events/brand.ts';
import { ArcticError } from '../../events/errors.ts';
import {
  decideCreateCredential,
  decideRevokeCredential,
  decideRotateCredential,
  requireSharedCredential,
} from '../commands/credentials.ts';
import { parseScopes } from '../commands/scopes.ts';
import { createSecret, hashSecret } from '../identity/secrets.ts';
import { type ApiContext, type App, commandOf, documented, etag, isoTime } from './context.ts';
import { PagingQuery, pageOf } from './paging.ts';
import { credentialResource } from './resources.ts';
import {
  CreateCredentialBody,
  Credential,
  CredentialParams,
  NewCredential,
  RotatedCredential,
  SharedCredential,
} from './schemas/credentials.ts';
import { listOf } from './schemas/fields.ts';

const ListQuery = Type.Object({ ...PagingQuery }, { additionalProperties: false });

export function credentialRoutes(app: App, context: ApiContext): void {
  const { views, executor, random, clock } = context;

  app.get(
    '/v1/credentials',
    { schema: documented({ querystring: ListQuery }, { 200: listOf('credentials', Credential) }) },
    (request) => {
      const live = views.credentials.list().filter((one) => !one.revoked);
      const { items, next_cursor } = pageOf(live, request.query, (one) => ({
        hlc: one.created_hlc,
        id: one.client_id,
      }));
      return { credentials: items.map((one) => credentialResource(context, one)), next_cursor };
    },
  );

  app.post(
    '/v1/credentials',
    { schema: documented({ body: CreateCredentialBody }, { 201: NewCredential }) },
    (request, reply) => {
      const secret = createSecret(random);
      const { result } = executor.execute(commandOf(request), (now, at) =>
        decideCreateCredential(
          now,
          {
            scopes: request.body.scopes && parseScopes(request.body.scopes, '/scopes'),
            callerScopes: request.caller.scopes,
            secretHash: hashSecret(secret),
          },
          at,
        ),
      );
      const credential = result && views.credentials.get(result);
      if (credential === undefined) throw shownBefore();
      return reply
        .code(201)
        .header('etag', etag(credential.version))
        .send({ ...credentialResource(context, credential), client_secret: secret });
    },
  );

  app.delete(
    '/v1/credentials/:client_id',
    { schema: documented({ params: CredentialParams }, { 204: Type.Null() }) },
    (request, reply) => {
      const id = request.params.client_id as ClientId;
      executor.execute(commandOf(request, id), (now, at) =>
        decideRevokeCredential(now, id, request.caller.clientId, at),
      );
      return reply.code(204).send();
    },
  );

  app.get(
    '/v1/cluster/credentials',
    { schema: documented({}, { 200: SharedCredential }) },
    (request, reply) => {
      const credential = requireSharedCredential(views, request.caller.clientId);
      const until = credential.previous?.valid_until_ms;
      return reply.header('etag', etag(credential.version)).send({
        ...credentialResource(context, credential),
        previous_secret_valid_until: until !== undefined && until > clock.now() ? isoTime(until) : null,
      });
    },
  );

  app.post(
    '/v1/cluster/credentials/rotate',
    { schema: documented({}, { 200: RotatedCredential }) },
    (request) => {
      const secret = createSecret(random);
      const { clientId, scopes } = request.caller;
      const shared = requireSharedCredential(views, clientId);
      const { result } = executor.execute(commandOf(request, shared.client_id), (now, at) =>
        decideRotateCredential(
          now,
          { callerClientId: clientId, callerScopes: scopes, secretHash: hashSecret(secret) },
          at,
        ),
      );
      if (result === undefined) throw shownBefore();
      return {
        client_id: result.clientId,
        client_secret: secret,
        previous_secret_valid_until: isoTime(result.previousValidUntil),
      };
    },
  );
}

/** A secret exists once, in the first answer; a repetition cannot give it again. */
const shownBefore = () =>
  new ArcticError(
    'ALREADY_EXISTS',
    'an earlier request with this Idempotency-Key did this and was given the secret; rotate or create again with a new key.',
  );
