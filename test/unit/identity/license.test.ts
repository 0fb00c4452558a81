import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { type Clock, systemClock } from '../../../events/clock.ts';
import { createIds } from '../../../events/ids.ts';
import {
  createLicenseRoot,
  formatRootKey,
  issueLicense,
  type LicenseTerms,
  parseLicense,
  parseRootKey,
  verifyLicense,
} from '../../../src/identity/license.ts';
import { formatPublicRoot, loadTrustRoots, parsePublicRoot } from '../../../src/identity/trust-roots.ts';
import { random } from '../local-peer.ts';

const FIXTURES = join(import.meta.dirname, '../../../fixtures/licenses');
const clock: Clock = systemClock;
const ids = createIds({ clock, random });
const terms: LicenseTerms = {
  customerId: 'cust_acme',
  maxNodes: 3,
  maxServices: 9,
  features: ['kcp'],
  expiresAt: Date.now() + 86_400_000,
};

const temporary = (t: Test): string => {
  const directory = mkdtempSync(join(tmpdir(), 'arctic-identity-'));
  t.teardown(() => rmSync(directory, { recursive: true, force: true }));
  return directory;
};

t.test('what an issuer signs, its root verifies, and nobody else’s', async (t) => {
  const root = createLicenseRoot(random);
  const license = issueLicense(root, terms, { clock, ids });
  t.match(license, { customer_id: 'cust_acme', max_nodes: 3, max_services: 9, features: ['kcp'] });
  const trusted = { name: 'acme', publicKey: root.publicKey };
  const other = { name: 'other', publicKey: createLicenseRoot(random).publicKey };
  t.same(verifyLicense(license, [other, trusted]), license);
  t.throws(() => verifyLicense(license, [other]), {
    code: 'LICENSE_INVALID',
    message: /not signed by.*other/,
  });
  t.throws(() => verifyLicense(license, []), { code: 'LICENSE_INVALID', message: /no trust root/ });
  for (const change of [
    { max_nodes: 4 },
    { customer_id: 'cust_acme2' },
    { expires_at: '2100-01-01T00:00:00.000Z' },
    { features: [] },
    { license_id: 'lic_other' },
  ]) {
    t.throws(() => verifyLicense({ ...license, ...change }, [trusted]), { code: 'LICENSE_INVALID' });
  }
  // The order of the fields is not signed: canonical JSON has one order.
  const reordered = Object.fromEntries(Object.entries(license).reverse());
  t.same(verifyLicense(reordered, [trusted]), license);
});

t.test('terms that make no license are refused', async (t) => {
  const root = createLicenseRoot(random);
  for (const wrong of [
    { expiresAt: Date.now() - 1 },
    { expiresAt: Number.NaN },
    { maxNodes: 0 },
    { maxServices: -1 },
    { customerId: 'acme' },
    { features: ['x'.repeat(65)] },
  ]) {
    t.throws(() => issueLicense(root, { ...terms, ...wrong }, { clock, ids }), { code: 'INVALID_REQUEST' });
  }
});

t.test('a root goes to its files and back', async (t) => {
  const root = createLicenseRoot(random);
  t.same(parseRootKey(formatRootKey(root), 'root.key'), root);
  t.same(parsePublicRoot(formatPublicRoot(root.publicKey), 'root.pub'), root.publicKey);
  t.throws(() => parseRootKey('nonsense', 'root.key'), { code: 'INVALID_REQUEST', message: /root\.key/ });
  for (const text of [
    '',
    'nonsense',
    formatRootKey(root) + formatPublicRoot(root.publicKey),
    'A'.repeat(44),
  ]) {
    t.throws(() => parsePublicRoot(text, 'root.pub'), { code: 'LICENSE_INVALID', message: /root\.pub/ });
  }
});

t.test('trust roots are read from files that only their owner can write', async (t) => {
  const directory = temporary(t);
  t.same(loadTrustRoots(join(directory, 'none')), [], 'no directory, no roots');
  const roots = join(directory, 'trust-roots');
  mkdirSync(roots, { mode: 0o755 });
  const { publicKey } = createLicenseRoot(random);
  const file = join(roots, 'acme.pub');
  writeFileSync(file, formatPublicRoot(publicKey), { mode: 0o644 });
  writeFileSync(join(roots, 'README'), 'not a root');
  t.same(loadTrustRoots(roots), [{ name: 'acme', publicKey }]);
  chmodSync(file, 0o664);
  t.throws(() => loadTrustRoots(roots), {
    code: 'LICENSE_INVALID',
    message: /acme\.pub has mode 0664.*chmod go-w/,
  });
  chmodSync(file, 0o644);
  chmodSync(roots, 0o777);
  t.throws(() => loadTrustRoots(roots), { code: 'LICENSE_INVALID', message: /trust-roots has mode 0777/ });
  chmodSync(roots, 0o755);
  writeFileSync(file, 'damaged');
  t.throws(() => loadTrustRoots(roots), { code: 'LICENSE_INVALID', message: /acme\.pub/ });
});

t.test('the fixtures are what their names say', async (t) => {
  const roots = [
    {
      name: 'root',
      publicKey: parsePublicRoot(readFileSync(join(FIXTURES, 'root.pub'), 'utf8'), 'root.pub'),
    },
  ];
  const read = (name: string) => parseLicense(readFileSync(join(FIXTURES, name), 'utf8'), name);
  t.match(verifyLicense(read('valid.json'), roots), { customer_id: 'cust_fixture', max_nodes: 10 });
  t.match(verifyLicense(read('expired.json'), roots), { expires_at: '2020-01-01T00:00:00.000Z' });
  t.match(verifyLicense(read('other-customer.json'), roots), { customer_id: 'cust_other' });
  t.match(verifyLicense(read('one-node.json'), roots), { max_nodes: 1, max_services: 1 });
  for (const name of ['tampered.json', 'other-root.json', 'missing-field.json']) {
    t.throws(() => verifyLicense(read(name), roots), { code: 'LICENSE_INVALID' }, name);
  }
  t.throws(() => read('not-json.json'), { code: 'LICENSE_INVALID', message: /not-json\.json/ });
});
