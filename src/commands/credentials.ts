import type { ClientId } from '../../events/brand.ts';
import { ArcticError } from '../../events/errors.ts';
import { newClientId } from '../../events/ids.ts';
import type { CredentialView, Views } from '../../projections/views.ts';
import type { Decision, DecisionContext } from './decision.ts';
import { requireLicense, requireWritable } from './gate.ts';
import { covers, type Scope } from './scopes.ts';

/** How long the secret before a rotation is still taken (SPEC section 5). */
export const ROTATION_GRACE_MS = 24 * 3_600_000;

export interface CreateCredentialCommand {
  /** Undefined: those of the caller. */
  readonly scopes: readonly Scope[] | undefined;
  readonly callerScopes: readonly Scope[];
  readonly secretHash: string;
}

/** Creates a client whose scopes are within the caller's. */
export function decideCreateCredential(
  views: Views,
  command: CreateCredentialCommand,
  context: DecisionContext,
): Decision<ClientId> {
  const license = requireWritable(views, context);
  const scopes = command.scopes ?? command.callerScopes;
  const wider = scopes.filter((scope) => !covers(command.callerScopes, scope));
  if (wider.length > 0) {
    const message = `cannot be given by a caller without ${wider.join(', ')}`;
    throw new ArcticError(
      'FORBIDDEN',
      `a credential cannot be wider than the one that creates it: yours lacks ${wider.join(', ')}.`,
      [{ pointer: '/scopes', message }],
    );
  }
  const clientId = newClientId(context.ids);
  return {
    events: [
      {
        type: 'credential.created',
        entity: clientId,
        data: {
          client_id: clientId,
          secret_hash: command.secretHash,
          scopes: [...scopes],
          license_id: license.license_id,
          shared: false,
        },
      },
    ],
    result: clientId,
  };
}

/** Revokes a client for good; the tokens it has die with it. */
export function decideRevokeCredential(
  views: Views,
  clientId: ClientId,
  callerClientId: string | null,
  context: DecisionContext,
): Decision<null> {
  requireWritable(views, context);
  const credential = views.credentials.get(clientId);
  if (credential === undefined) {
    throw new ArcticError('NOT_FOUND', `there is no credential ${clientId}; see: arctic credentials list`);
  }
  if (credential.revoked) throw new ArcticError('NOT_FOUND', `credential ${clientId} was revoked already.`);
  if (clientId === callerClientId) {
    throw new ArcticError(
      'CANNOT_REVOKE_CURRENT',
      `${clientId} is the credential of this request; revoke it with another one, or with the recovery token.`,
    );
  }
  return { events: [{ type: 'credential.revoked', entity: clientId, data: {} }], result: null };
}

/** Gives the shared credential a new secret; the old one is taken for another 24 hours. */
export function decideRotateCredential(
  views: Views,
  command: {
    readonly callerClientId: string | null;
    readonly callerScopes: readonly Scope[];
    readonly secretHash: string;
  },
  context: DecisionContext,
): Decision<{ readonly clientId: ClientId; readonly previousValidUntil: number }> {
  requireWritable(views, context);
  const { client_id, scopes } = requireSharedCredential(views, command.callerClientId);
  // Who is given the secret is given its scopes: the rule of creation holds here too.
  const wider = (scopes as readonly Scope[]).filter((scope) => !covers(command.callerScopes, scope));
  if (wider.length > 0) {
    throw new ArcticError(
      'FORBIDDEN',
      `the shared credential ${client_id} has scopes that yours lacks (${wider.join(', ')}), so its secret cannot be given to you.`,
    );
  }
  const previousValidUntil = context.now + ROTATION_GRACE_MS;
  return {
    events: [
      {
        type: 'credential.rotated',
        entity: client_id,
        data: { secret_hash: command.secretHash, previous_valid_until_ms: previousValidUntil },
      },
    ],
    result: { clientId: client_id, previousValidUntil },
  };
}

/**
 * The shared credential made at bootstrap. Clusters that merged bring one each: then the caller's own if it is one, else
 * the oldest that still lives.
 */
export function requireSharedCredential(views: Views, callerClientId: string | null): CredentialView {
  requireLicense(views);
  const shared = views.credentials.list().filter((one) => one.shared && !one.revoked);
  const chosen = shared.find((one) => one.client_id === callerClientId) ?? shared[0];
  if (chosen === undefined) {
    throw new ArcticError(
      'NOT_FOUND',
      'the shared credential of this cluster was revoked; create another one with: arctic credentials create',
    );
  }
  return chosen;
}
