import fc from 'fast-check';
import t from 'tap';
import { licenseStateAt, nextLicenseChange } from '../../../src/commands/license-state.ts';

const DAY = 86_400_000;
const EXPIRY = Date.parse('2027-01-01T00:00:00Z');
const expires = new Date(EXPIRY).toISOString();

t.test('each state begins on its day', async (t) => {
  const cases: readonly [number, string][] = [
    [-1_000 * DAY, 'valid'],
    [-30 * DAY - 1, 'valid'],
    [-30 * DAY, 'warning'],
    [-1, 'warning'],
    [0, 'grace'],
    [14 * DAY - 1, 'grace'],
    [14 * DAY, 'read_only'],
    [44 * DAY - 1, 'read_only'],
    [44 * DAY, 'suspended'],
    [1_000 * DAY, 'suspended'],
  ];
  for (const [offset, state] of cases)
    t.equal(licenseStateAt(expires, EXPIRY + offset), state, `${offset / DAY} days`);
});

t.test('the next change is the first moment of another state', async () => {
  fc.assert(
    fc.property(fc.integer({ min: -100 * DAY, max: 100 * DAY }), (offset) => {
      const now = EXPIRY + offset;
      const state = licenseStateAt(expires, now);
      const next = nextLicenseChange(expires, now);
      if (next === undefined) return state === 'suspended';
      return (
        next > now && licenseStateAt(expires, next - 1) === state && licenseStateAt(expires, next) !== state
      );
    }),
  );
});
