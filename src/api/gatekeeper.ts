import type { FastifyReply, FastifyRequest } from 'fastify';
import { ArcticError } from '../../events/errors.ts';
import { parsePeerId } from '../../events/ids.ts';
import { notBootstrapped, suspended } from '../commands/gate.ts';
import { licenseStateAt } from '../commands/license-state.ts';
import { isMember } from '../commands/peers.ts';
import { covers, parseScopes, SCOPES } from '../commands/scopes.ts';
import { type Access, accessOf } from './access.ts';
import type { ApiContext, Caller } from './context.ts';
import { forwardTo } from './forward.ts';
import { HOP_HEADER, readHop } from './hop.ts';

/** Decides, before a body is read, whether this agent answers the request, who is asking, and whether it is for another. */
export function createGatekeeper(context: ApiContext) {
  const { views, identity, clock, logger } = context;
  const localPeer = identity.peerId;

  return async function admit(
    request: FastifyRequest,
    reply: FastifyReply,
  ): Promise<FastifyReply | undefined> {
    const hop = single(request, HOP_HEADER);
    const direct = plainAddress(request.socket.remoteAddress);
    request.caller = anonymous(direct);
    if (request.is404) return undefined;
    const access = accessOf(request.method, request.routeOptions.url ?? '');
    if (access === undefined) throw new Error(`no row in the access table for ${request.routeOptions.url}`);
    const bootstrapped = views.cluster().cluster_id !== undefined;
    if (!bootstrapped && access.bare === undefined) throw notBootstrapped();
    const address =
      hop === undefined
        ? direct
        : readHop(
            hop,
            { method: request.method, url: request.url, id: request.id },
            { views, clock, localPeer },
          );
    request.caller = anonymous(address);
    if (access.scope === 'peer') return undefined;

    const target = otherMember(request, hop !== undefined);
    if (target !== undefined) {
      // A recovery token belongs to the host it is for; only that host can tell whether it is right.
      if (access.scope !== 'none' && single(request, 'x-arctic-recovery') === undefined) {
        request.caller = await authenticate(request, access, address);
      }
      return forwardTo(context, target, request, reply, address);
    }

    const recovery = single(request, 'x-arctic-recovery');
    if (recovery !== undefined) {
      request.caller = recover(request, recovery, address);
      return undefined;
    }
    if (access.internal === undefined && views.peers.get(localPeer)?.api_access === 'internal') {
      throw new ArcticError(
        'FORBIDDEN',
        'this peer is internal (api_access) and answers only its own recovery token; ask another member.',
      );
    }
    const license = views.license();
    if (
      access.suspended === undefined &&
      license !== undefined &&
      licenseStateAt(license.expires_at, clock.now()) === 'suspended'
    ) {
      throw suspended(license);
    }
    if (access.scope === 'none') return undefined;
    if (access.loopbackOpen && hop === undefined && isLoopback(direct)) return undefined;
    if (!bootstrapped) throw notBootstrapped();
    request.caller = await authenticate(request, access, address);
    return undefined;
  };

  /** The member the request names, when it is not this one. */
  function otherMember(request: FastifyRequest, forwarded: boolean) {
    const named = single(request, 'x-arctic-peer');
    if (named === undefined || named === localPeer) return undefined;
    const id = parsePeerId(named);
    if (id === undefined) {
      throw new ArcticError('INVALID_REQUEST', 'the header X-Arctic-Peer must be a peer id.', [
        { pointer: 'headers/x-arctic-peer', message: 'must be a peer id' },
      ]);
    }
    if (forwarded) {
      throw new ArcticError(
        'INVALID_REQUEST',
        `this request was forwarded to ${localPeer} already and names ${id}.`,
      );
    }
    const peer = views.peers.get(id);
    if (peer === undefined || !isMember(peer)) {
      throw new ArcticError('NOT_FOUND', `${id} is not a member of this cluster; see: arctic peers list`);
    }
    return peer;
  }

  function recover(request: FastifyRequest, token: string, address: string): Caller {
    if (!context.recovery.matches(token)) {
      logger.warn(
        { address, method: request.method, path: pathOf(request) },
        'a wrong recovery token was refused',
      );
      throw new ArcticError(
        'UNAUTHORIZED',
        'the recovery token is not the one of this run of the agent; it is written anew at every start.',
      );
    }
    const caller: Caller = { kind: 'recovery', clientId: null, scopes: ['admin'], expiresAt: null, address };
    request.caller = caller;
    const path = pathOf(request);
    logger.warn(
      { address, method: request.method, path, request_id: request.id },
      'the recovery token was used',
    );
    context.executor.execute(
      { actor: { kind: 'recovery', id: null, address }, correlationId: request.id },
      () => ({
        events: [
          {
            type: 'recovery.used',
            entity: localPeer,
            data: { method: request.method, path: path.slice(0, 500) },
          },
        ],
        result: null,
      }),
    );
    return caller;
  }

  async function authenticate(request: FastifyRequest, access: Access, address: string): Promise<Caller> {
    const header = single(request, 'authorization');
    const token = header === undefined ? undefined : /^Bearer ([^\s]+)$/i.exec(header)?.[1];
    if (token === undefined) {
      throw new ArcticError(
        'UNAUTHORIZED',
        'this request needs an access token (Authorization: Bearer ...); get one from /v1/oauth/token.',
      );
    }
    const claims = await context.tokens.verify(token);
    const credential = views.credentials.get(claims.clientId);
    if (credential === undefined || credential.revoked) {
      throw new ArcticError(
        'UNAUTHORIZED',
        `credential ${claims.clientId} was revoked, and its tokens with it.`,
      );
    }
    const held = parseScopes(
      claims.scopes.filter((scope) => SCOPES.some((one) => one === scope)),
      '',
    ).filter((scope) => covers(credential.scopes, scope));
    if (
      access.scope !== 'any' &&
      access.scope !== 'none' &&
      access.scope !== 'peer' &&
      !covers(held, access.scope)
    ) {
      throw new ArcticError(
        'FORBIDDEN',
        `this needs the scope ${access.scope}; the token of ${claims.clientId} has ${held.join(', ') || 'none'}.`,
      );
    }
    context.credentialUse.seen(claims.clientId);
    return { kind: 'client', clientId: claims.clientId, scopes: held, expiresAt: claims.expiresAt, address };
  }
}

const anonymous = (address: string): Caller => ({
  kind: 'anonymous',
  clientId: null,
  scopes: [],
  expiresAt: null,
  address,
});

/** A header that may stand once; several count as a malformed one. */
function single(request: FastifyRequest, name: string): string | undefined {
  const value = request.headers[name];
  if (value === undefined || typeof value === 'string') return value;
  throw new ArcticError('INVALID_REQUEST', `the header ${name} stands more than once.`);
}

const pathOf = (request: FastifyRequest): string => request.url.split('?')[0] ?? request.url;

/** IPv4 over a dual-stack socket in its own form. */
export const plainAddress = (address: string | undefined): string =>
  (address ?? 'unknown').replace(/^::ffff:(?=\d+\.)/i, '');

const isLoopback = (address: string): boolean => address === '::1' || /^127\./.test(address);
