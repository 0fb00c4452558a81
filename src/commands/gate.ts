import { ArcticError } from '../../events/errors.ts';
import type { LicenseDocumentView, Views } from '../../projections/views.ts';
import type { DecisionContext } from './decision.ts';
import { licenseStateAt } from './license-state.ts';

/** The license in force. Throws NOT_BOOTSTRAPPED when there is none. */
export function requireLicense(views: Views): LicenseDocumentView {
  const license = views.license();
  if (license === undefined || views.cluster().cluster_id === undefined) throw notBootstrapped();
  return license;
}

export const notBootstrapped = () =>
  new ArcticError(
    'NOT_BOOTSTRAPPED',
    'this agent has not been bootstrapped; run: arctic bootstrap --license-file FILE',
  );

/**
 * What every change of the configuration asks first: is there a cluster, and does the license still allow writes.
 * Recovery gets through a license that has run out, so that a cluster can be set right.
 */
export function requireWritable(views: Views, context: DecisionContext): LicenseDocumentView {
  const license = requireLicense(views);
  if (context.actor.kind === 'recovery') return license;
  switch (licenseStateAt(license.expires_at, context.now)) {
    case 'read_only':
      throw new ArcticError(
        'LICENSE_READ_ONLY',
        `license ${license.license_id} expired on ${license.expires_at} and its grace is over, so nothing can be changed; ` +
          'install a new one with: arctic license install FILE',
      );
    case 'suspended':
      throw suspended(license);
    default:
      return license;
  }
}

export const suspended = (license: LicenseDocumentView) =>
  new ArcticError(
    'LICENSE_SUSPENDED',
    `license ${license.license_id} expired on ${license.expires_at} and is suspended, so services are stopped; ` +
      'install a new one with: arctic license install FILE',
  );

/**
 * Holds back a change while someone else has the cluster lock, and a late one of a holder whose lease has run out (the
 * fencing of a lease). Recovery is not held back.
 */
export function requireUnlocked(views: Views, context: DecisionContext): void {
  if (context.actor.kind === 'recovery') return;
  const { lock } = views.cluster();
  const live = lock !== undefined && lock.expires_at_ms > context.now ? lock : undefined;
  if (context.fence === live?.fence) return;
  if (live !== undefined) {
    throw new ArcticError(
      'CLUSTER_LOCKED',
      `the cluster is locked by ${live.holder} (${live.purpose}) until ${new Date(live.expires_at_ms).toISOString()}; ` +
        'try again then, or free it with: arctic cluster unlock',
    );
  }
  throw new ArcticError(
    'CLUSTER_LOCKED',
    `lease ${context.fence} of the cluster lock has ended, so this change was not made; take the lock again and start over.`,
  );
}

/** Whoever is out of the cluster may sign what it likes: no member takes it. Better said now than lost. */
function requireBelonging(views: Views, context: DecisionContext): void {
  const membership = views.peers.get(context.localPeer)?.membership;
  if (membership !== 'removed' && membership !== 'left') return;
  const { cluster_id } = views.cluster();
  throw new ArcticError(
    'FORBIDDEN',
    `this agent ${membership === 'left' ? 'left' : 'was removed from'} cluster ${cluster_id}, so no member takes what is changed here; ` +
      'add it again from a member with: arctic peers add HOST:PORT, or bootstrap it anew',
  );
}

/** All gates, for changes of peers, services and routes. */
export function requireChangeable(views: Views, context: DecisionContext): LicenseDocumentView {
  const license = requireWritable(views, context);
  requireBelonging(views, context);
  requireUnlocked(views, context);
  return license;
}
