import { ArcticError } from '../../events/errors.ts';
import type { LicenseDocumentView, Views } from '../../projections/views.ts';
import { copyLicense, refuseExpired } from './bootstrap.ts';
import type { Decision, DecisionContext } from './decision.ts';
import { requireLicense } from './gate.ts';
import type { LicenseState } from './license-state.ts';

/**
 * Puts a verified license in the place of the one in force. Allowed in every state of the old one: it is the way out of
 * `suspended`. The license in force is the latest issued, so an older one is refused rather than stored without effect.
 */
export function decideReplaceLicense(
  views: Views,
  license: LicenseDocumentView,
  context: DecisionContext,
): Decision<null> {
  const current = requireLicense(views);
  if (license.customer_id !== current.customer_id) {
    throw new ArcticError(
      'LICENSE_MISMATCH',
      `license ${license.license_id} belongs to ${license.customer_id}, but this cluster to ${current.customer_id}.`,
    );
  }
  if (license.license_id === current.license_id && license.signature === current.signature) {
    return { events: [], result: null };
  }
  refuseExpired(license, context.now);
  const issued = Date.parse(license.issued_at);
  const currentIssued = Date.parse(current.issued_at);
  if (issued < currentIssued || (issued === currentIssued && license.license_id < current.license_id)) {
    throw new ArcticError(
      'LICENSE_INVALID',
      `license ${license.license_id} was issued on ${license.issued_at}, before the one in force ` +
        `(${current.license_id}, ${current.issued_at}); ask the issuer for a newer one.`,
    );
  }
  return {
    events: [
      { type: 'license.installed', entity: license.license_id, data: { license: copyLicense(license) } },
    ],
    result: null,
  };
}

/** Records that this host's license is in another state than it was; nothing when it is in the same. */
export function decideLicenseState(
  license: LicenseDocumentView,
  last: { readonly licenseId: string; readonly state: LicenseState } | undefined,
  state: LicenseState,
): Decision<LicenseState> {
  const from = last?.licenseId === license.license_id ? last.state : null;
  if (from === state) return { events: [], result: state };
  return {
    events: [
      {
        type: 'license.state_changed',
        entity: license.license_id,
        data: { license_id: license.license_id, from, to: state },
      },
    ],
    result: state,
  };
}
