import type { Projections } from '../projections/runner.ts';
import { verifyLicense } from './identity/license.ts';
import type { loadTrustRoots } from './identity/trust-roots.ts';

/** Whether a license is signed by one who is trusted now. */
export function verifies(license: unknown, trustRoots: () => ReturnType<typeof loadTrustRoots>): boolean {
  try {
    verifyLicense(license, trustRoots());
    return true;
  } catch {
    return false;
  }
}

/** A stored license that does not verify stops the start (SPEC section 8). */
export function requireSoundLicense(
  projections: Projections,
  trustRoots: () => ReturnType<typeof loadTrustRoots>,
): void {
  const stored = projections.views.license();
  const roots = trustRoots();
  if (stored !== undefined) verifyLicense(stored, roots);
}
