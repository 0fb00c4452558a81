import type { Static } from 'typebox';
import { Compile } from 'typebox/compile';
import type { CustomerId, LicenseId } from '../../events/brand.ts';
import { canonicalJson } from '../../events/canonical.ts';
import { LicenseDocument } from '../../events/catalogue/license.ts';
import type { Clock, Random } from '../../events/clock.ts';
import { publicKeyOfSeed, SEED_BYTES, signPortable, verifyPortable } from '../../events/ed25519.ts';
import { ArcticError } from '../../events/errors.ts';
import { type Ids, newLicenseId } from '../../events/ids.ts';
import type { TrustRoot } from './trust-roots.ts';

/** `license.json` (SPEC section 4). */
export type License = Omit<Static<typeof LicenseDocument>, 'license_id' | 'customer_id'> & {
  readonly license_id: LicenseId;
  readonly customer_id: CustomerId;
};

/** What an issuer decides; the rest of a license follows. */
export interface LicenseTerms {
  readonly customerId: string;
  readonly maxNodes: number;
  readonly maxServices: number;
  readonly features: readonly string[];
  /** Milliseconds since the epoch. */
  readonly expiresAt: number;
}

/** A license issuer's key pair. */
export interface LicenseRoot {
  /** 32 bytes; secret. */
  readonly seed: Uint8Array;
  readonly publicKey: Uint8Array;
}

export function createLicenseRoot(random: Random): LicenseRoot {
  const seed = random.bytes(SEED_BYTES);
  return { seed, publicKey: publicKeyOfSeed(seed) };
}

export const formatRootKey = (root: LicenseRoot): string =>
  `# Arctic license root (Ed25519 seed). Whoever has this can issue licenses.\n${Buffer.from(root.seed).toString('base64')}\n`;

/** The root in the text of a `root.key` file. */
export function parseRootKey(text: string, path: string): LicenseRoot {
  const lines = text.split(/\r?\n/).filter((line) => line.trim() !== '' && !line.startsWith('#'));
  const seed = Buffer.from(lines[0] ?? '', 'base64');
  if (lines.length !== 1 || seed.length !== SEED_BYTES) {
    throw new ArcticError(
      'INVALID_REQUEST',
      `${path} is not a license root key; make one with: arctic license root create --out DIR`,
    );
  }
  return { seed: new Uint8Array(seed), publicKey: publicKeyOfSeed(seed) };
}

const checkDocument = Compile(LicenseDocument);
const MAX_LICENSE_BYTES = 64 * 1024;

/** Signs a license. Throws INVALID_REQUEST when the terms do not make one. */
export function issueLicense(
  root: LicenseRoot,
  terms: LicenseTerms,
  deps: { readonly clock: Clock; readonly ids: Ids },
): License {
  const now = deps.clock.now();
  if (!(terms.expiresAt > now)) {
    throw new ArcticError('INVALID_REQUEST', 'the expiry of the license must be in the future.', [
      { pointer: '/expires_at', message: 'must be in the future' },
    ]);
  }
  const unsigned = {
    license_id: newLicenseId(deps.ids),
    customer_id: terms.customerId as CustomerId,
    issued_at: new Date(now).toISOString(),
    expires_at: new Date(terms.expiresAt).toISOString(),
    max_nodes: terms.maxNodes,
    max_services: terms.maxServices,
    features: [...terms.features],
  };
  const license = {
    ...unsigned,
    signature: Buffer.from(signPortable(root.seed, signedBytes(unsigned))).toString('base64'),
  };
  const faults = documentFaults(license);
  if (faults.length > 0)
    throw new ArcticError('INVALID_REQUEST', 'these terms do not make a license.', faults);
  return license;
}

/**
 * The license in a parsed document whose shape and signature are right. Whether it has expired, or belongs to this
 * customer, is for the decision that uses it. Throws LICENSE_INVALID.
 */
export function verifyLicense(document: unknown, roots: readonly TrustRoot[]): License {
  const faults = documentFaults(document);
  if (faults.length > 0) {
    throw new ArcticError(
      'LICENSE_INVALID',
      `this is not a license: ${faults[0]?.pointer || 'the document'} ${faults[0]?.message ?? 'is malformed'}.`,
      faults,
    );
  }
  const license = document as License;
  if (roots.length === 0) {
    throw new ArcticError(
      'LICENSE_INVALID',
      'no trust root is installed on this host; copy the root.pub of the issuer to trust-roots/ in the configuration directory and try again.',
    );
  }
  const { signature, ...rest } = license;
  const message = signedBytes(rest);
  const raw = Buffer.from(signature, 'base64');
  if (!roots.some((root) => verifyPortable(root.publicKey, message, raw))) {
    throw new ArcticError(
      'LICENSE_INVALID',
      `license ${license.license_id} is not signed by a trust root of this host (${roots.map((root) => root.name).join(', ')}); ` +
        'it was altered, or its issuer is not trusted here.',
    );
  }
  return license;
}

/** The license in the text of a `license.json`. Throws LICENSE_INVALID that names the file. */
export function parseLicense(text: string, path: string): unknown {
  if (Buffer.byteLength(text) > MAX_LICENSE_BYTES) {
    throw new ArcticError('LICENSE_INVALID', `${path} is not a license: it is larger than 64 KiB.`);
  }
  try {
    return JSON.parse(text);
  } catch {
    // The parser would quote the file, line ends and all.
    throw new ArcticError('LICENSE_INVALID', `${path} is not a license: it is not JSON.`);
  }
}

const signedBytes = (rest: Omit<License, 'signature'>): Uint8Array =>
  Buffer.from(canonicalJson(rest), 'utf8');

function documentFaults(document: unknown) {
  if (!checkDocument.Check(document)) {
    return checkDocument
      .Errors(document)
      .slice(0, 20)
      .map((error) => ({ pointer: error.instancePath, message: error.message }));
  }
  const { issued_at, expires_at } = document;
  if (!(Date.parse(issued_at) < Date.parse(expires_at))) {
    return [{ pointer: '/expires_at', message: 'must be after issued_at' }];
  }
  return [];
}
