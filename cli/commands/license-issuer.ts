import { randomBytes } from 'node:crypto';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Random } from '../../events/clock.ts';
import { EXIT } from '../../events/errors.ts';
import { createIds } from '../../events/ids.ts';
import { createLicenseRoot, formatRootKey, issueLicense, parseRootKey } from '../../src/identity/license.ts';
import { writePrivateFile } from '../../src/identity/private-file.ts';
import type { Run } from '../command.ts';
import { exposure } from '../config-file.ts';
import { parseDuration } from '../duration.ts';
import { errorCode, Failure, systemReason, usageFailure } from '../failure.ts';

const random: Random = {
  bytes: (count) => new Uint8Array(randomBytes(count)),
  fraction: Math.random,
};

/** Writes root.key and root.pub. Neither is ever replaced: a lost root cannot be made again. */
export const createRoot: Run = async (context, input) => {
  const directory = input.requiredText('out');
  const keyPath = join(directory, 'root.key');
  const publicPath = join(directory, 'root.pub');
  const root = createLicenseRoot(random);
  const publicKey = Buffer.from(root.publicKey).toString('base64');
  try {
    mkdirSync(directory, { recursive: true, mode: 0o700 });
    writePrivateFile(keyPath, formatRootKey(root), { replace: false });
    writeFileSync(publicPath, `# Arctic license root (Ed25519 public key)\n${publicKey}\n`, {
      flag: 'wx',
      mode: 0o644,
    });
  } catch (error) {
    if (error instanceof Error && error.name === 'ArcticError') throw error;
    const path = errorCode(error) === 'EEXIST' ? publicPath : directory;
    throw new Failure(EXIT.general, `cannot write ${path}: ${systemReason(error)}.`, [], { cause: error });
  }
  await context.output.fields({ root_key: keyPath, root_pub: publicPath, public_key: publicKey }, [
    ['Root Key', `${keyPath} (keep it secret)`],
    ['Root Public Key', publicPath],
  ]);
  context.terminal.note(
    `Copy ${publicPath} to /etc/arctic/trust-roots/ on every host, before it is bootstrapped.`,
  );
  return EXIT.success;
};

/** Milliseconds since the epoch of a date, a time, or a distance from now. @throws Failure (usage) */
export function parseExpiry(text: string, now: number): number {
  const distance = /[a-z]$/i.test(text) ? parseDuration(text) : undefined;
  if (distance !== undefined) return now + distance;
  const date = /^(\d{4})-(\d{2})-(\d{2})$/.exec(text);
  // The day named is the last on which the license holds.
  const time = date === null ? Date.parse(text) : Date.parse(`${text}T23:59:59Z`);
  const sameDay = date === null || new Date(time).getUTCDate() === Number(date[3]);
  if (!/^\d{4}-/.test(text) || Number.isNaN(time) || !sameDay)
    throw usageFailure(
      `--expires must be a date such as 2027-12-31 or a time from now such as 90d, not '${text}'.`,
    );
  return time;
}

const DEFAULT_EXPIRY = '365d';
const DEFAULT_NODES = 10;
const DEFAULT_SERVICES = 100;

function readRoot(path: string, warn: (text: string) => void) {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (error) {
    throw usageFailure(`cannot read the license root ${path}: ${systemReason(error)}.`);
  }
  const exposed = exposure(path);
  if (exposed !== undefined) warn(`Warning: ${exposed}`);
  return parseRootKey(text, path);
}

export const issue: Run = async (context, input) => {
  const root = readRoot(input.requiredText('root'), (text) => context.terminal.note(text));
  const customer = input.requiredText('customer');
  const now = context.clock.now();
  const license = issueLicense(
    root,
    {
      customerId: customer.startsWith('cust_') ? customer : `cust_${customer}`,
      maxNodes: input.number('max-nodes') ?? DEFAULT_NODES,
      maxServices: input.number('max-services') ?? DEFAULT_SERVICES,
      features: input.list('features') ?? [],
      expiresAt: parseExpiry(input.text('expires') ?? DEFAULT_EXPIRY, now),
    },
    { clock: context.clock, ids: createIds({ clock: context.clock, random }) },
  );
  // A license is a JSON document; the table form of one would be of no use to anybody.
  await context.output.either(license, () => `${JSON.stringify(license, null, 2)}\n`);
  return EXIT.success;
};
