/** Secrets are compared by `timingSafeEqual`, as often for a wrong one, or for nobody's, as for the right one. */
import crypto, { randomBytes } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { createRecoveryToken } from '../../../src/identity/recovery-token.ts';
import { createSecret, hashSecret, secretMatches } from '../../../src/identity/secrets.ts';

const random = { bytes: (count: number) => new Uint8Array(randomBytes(count)), fraction: () => 0.5 };

/** Lengths of what `timingSafeEqual` is given while `run` runs. */
function comparisons(run: () => boolean): { readonly result: boolean; readonly lengths: readonly number[] } {
  const genuine = crypto.timingSafeEqual;
  const lengths: number[] = [];
  crypto.timingSafeEqual = (a, b) => {
    lengths.push(a.byteLength, b.byteLength);
    return genuine(a, b);
  };
  syncBuiltinESMExports();
  try {
    return { result: run(), lengths };
  } finally {
    crypto.timingSafeEqual = genuine;
    syncBuiltinESMExports();
  }
}

t.test('client secrets', async (t) => {
  const secret = createSecret(random);
  const before = createSecret(random);
  const stored = {
    secret_hash: hashSecret(secret),
    previous: { secret_hash: hashSecret(before), valid_until_ms: 1_000 },
  };
  const cases: readonly [string, string, typeof stored | undefined, number, boolean][] = [
    ['the right one', secret, stored, 0, true],
    ['the one before, in its grace', before, stored, 999, true],
    ['the one before, after it', before, stored, 1_000, false],
    ['a wrong one', createSecret(random), stored, 0, false],
    ['one that differs in the last letter', `${secret.slice(0, -1)}~`, stored, 0, false],
    ['one of another length', 'x', stored, 0, false],
    ['nobody’s', secret, undefined, 0, false],
  ];
  for (const [what, offered, of, now, expected] of cases) {
    const { result, lengths } = comparisons(() => secretMatches(offered, of, now));
    t.equal(result, expected, what);
    t.same(lengths, [32, 32, 32, 32], `${what}: two comparisons of digests`);
  }
});

t.test('the recovery token', async (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'arctic-recovery-'));
  t.teardown(() => rmSync(directory, { recursive: true, force: true }));
  const path = join(directory, 'recovery.token');
  const token = createRecoveryToken(path, random);
  const genuine = readFileSync(path, 'utf8').trim();
  for (const [offered, expected] of [
    [genuine, true],
    [`${genuine.slice(0, -1)}~`, false],
    ['', false],
    ['x'.repeat(5_000), false],
  ] as const) {
    const { result, lengths } = comparisons(() => token.matches(offered));
    t.equal(result, expected);
    t.same(lengths, [32, 32], 'one comparison of digests, whatever the length');
  }
});
