import type { PeerId } from '../../events/brand.ts';
import type { AnyNewEvent } from '../../events/envelope.ts';
import { ArcticError } from '../../events/errors.ts';
import type { Ids } from '../../events/ids.ts';
import type { LicenseDocumentView, Views } from '../../projections/views.ts';
import { decideAdmitPeer } from '../commands/peers.ts';
import { FAILURES, toError } from './failures.ts';
import type { AdmissionCandidate, JoinContext } from './machine/core.ts';

export interface AdmissionDeps {
  readonly views: Views;
  readonly localPeer: PeerId;
  readonly ids: Ids;
  readonly now: () => number;
  readonly fraction: () => number;
}

/** The license that is in force once both clusters are one: the latest issued, ties to the larger id (as the fold has it). */
function laterIssued(a: LicenseDocumentView, b: LicenseDocumentView): LicenseDocumentView {
  const difference = Date.parse(a.issued_at) - Date.parse(b.issued_at);
  return difference > 0 || (difference === 0 && a.license_id > b.license_id) ? a : b;
}

/**
 * Whether a peer that has proved itself is admitted. A join may bring a whole cluster along, so the node cap counts the
 * union of both; everything else is the decision's own affair.
 */
export function createAdmission(
  deps: AdmissionDeps,
): (candidate: AdmissionCandidate, context: JoinContext) => readonly AnyNewEvent[] | ArcticError {
  return (candidate, context) => {
    const license = deps.views.license();
    if (license === undefined) return toError(FAILURES.unavailable);
    const union = new Set<PeerId>([...candidate.members, candidate.peer_id]);
    for (const peer of deps.views.peers.list()) if (peer.membership === 'member') union.add(peer.id);
    if (union.size > laterIssued(license, candidate.license).max_nodes) return toError(FAILURES.nodeLimit);
    try {
      return decideAdmitPeer(
        deps.views,
        {
          peer_id: candidate.peer_id,
          public_key: candidate.public_key,
          name: candidate.name,
          address: candidate.address,
          endpoints: candidate.endpoints,
          invited: candidate.invited,
        },
        {
          now: deps.now(),
          actor: context.actor,
          localPeer: deps.localPeer,
          ids: deps.ids,
          fraction: deps.fraction,
          fence: undefined,
        },
      ).events;
    } catch (error) {
      if (error instanceof ArcticError) return error;
      throw error;
    }
  };
}
