/**
 * The native relay under AddressSanitizer and UndefinedBehaviorSanitizer: the kept corpora, then new inputs by libFuzzer
 * where there is clang, and a member that misbehaves on purpose. FUZZ_SECONDS and FUZZ_SEED set how long and from where.
 */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import t, { type Test } from 'tap';
import { ASSOCIATIONS, corpusOf, createBuilder, DECODERS, hasClang, RELAY } from './relay/build.ts';

t.setTimeout(3_600_000);
const seconds = process.env['FUZZ_SECONDS'] ?? '10';
const seed = process.env['FUZZ_SEED'] ?? '1';
const builder = createBuilder();
t.teardown(() => builder.remove());

function finds(t: Test, program: string, argv: readonly string[]): void {
  const ended = spawnSync(program, argv, { encoding: 'utf8', maxBuffer: 64 << 20 });
  t.equal(ended.status, 0, ended.status === 0 ? 'nothing is found' : ended.stderr.slice(-4_000));
}

const TARGETS = [
  ['decode', DECODERS],
  ['kcp', ASSOCIATIONS],
  ['link', RELAY],
] as const;

for (const [name, sources] of TARGETS) {
  t.test(`${name}: the corpus and new inputs`, { timeout: 900_000 }, async (t) => {
    finds(t, builder.program(name, [`${name}.cc`, 'driver.cc'], sources), corpusOf(name));
    if (!hasClang()) return;
    const found = mkdtempSync(join(tmpdir(), 'arctic-corpus-'));
    t.teardown(() => rmSync(found, { recursive: true, force: true }));
    const options = [`-max_total_time=${seconds}`, `-seed=${seed}`, '-max_len=4096', '-timeout=20'];
    finds(t, builder.program(name, [`${name}.cc`], sources, { libfuzzer: true }), [
      ...options,
      `-artifact_prefix=${found}/`,
      found,
      ...corpusOf(name).slice(0, 1).map(dirname),
    ]);
  });
}

t.test(
  'a member that floods, replays, reorders and lies changes nothing for others',
  { timeout: 900_000 },
  async (t) => {
    finds(t, builder.program('hostile-peer', ['hostile-peer.cc'], RELAY), [seconds, seed]);
  },
);
