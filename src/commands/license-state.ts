import type { Static } from 'typebox';
import type { LicenseState as LicenseStateSchema } from '../../events/catalogue/license.ts';

export type LicenseState = Static<typeof LicenseStateSchema>;

const DAY_MS = 86_400_000;
/** Days before expiry in which the operator is warned (SPEC section 8). */
export const WARNING_DAYS = 30;
/** Days after expiry in which everything still works. */
export const GRACE_DAYS = 14;
/** Days after the grace in which writes are refused and the data plane runs. */
export const READ_ONLY_DAYS = 30;

interface Boundary {
  readonly state: LicenseState;
  /** Milliseconds since the epoch at which the state begins. */
  readonly from: number;
}

const boundaries = (expiresAt: string): readonly Boundary[] => {
  const expiry = Date.parse(expiresAt);
  return [
    { state: 'valid', from: Number.NEGATIVE_INFINITY },
    { state: 'warning', from: expiry - WARNING_DAYS * DAY_MS },
    { state: 'grace', from: expiry },
    { state: 'read_only', from: expiry + GRACE_DAYS * DAY_MS },
    { state: 'suspended', from: expiry + (GRACE_DAYS + READ_ONLY_DAYS) * DAY_MS },
  ];
};

/** The state of a license at a time (milliseconds since the epoch), by its `expires_at` alone. */
export const licenseStateAt = (expiresAt: string, now: number): LicenseState =>
  boundaries(expiresAt).findLast((one) => one.from <= now)?.state ?? 'valid';

/** When the state next changes, milliseconds since the epoch; undefined once it is suspended. */
export const nextLicenseChange = (expiresAt: string, now: number): number | undefined =>
  boundaries(expiresAt).find((one) => one.from > now)?.from;
