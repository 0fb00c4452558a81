/**
 * Builds the tunnel's core with AddressSanitizer and UndefinedBehaviorSanitizer, lets it mutate datagrams, frames, policies and
 * snapshots, and reads what it writes with the reference codec; plays the kept corpus and lets libFuzzer go on from it where there
 * is clang; and both threads with ThreadSanitizer. FUZZ_SECONDS and FUZZ_SEED set how long and from where.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { loadAddon } from '../../src/native/addon.ts';
import { aegisSeal } from '../unit/engines/iptun/reference-aegis.ts';
import { decodeRecords, nonceOf, sealBody } from '../unit/engines/iptun/reference-codec.ts';
import { hasClang } from './relay/build.ts';
import { CORE, CORPUS, corpus, createBuilder, WHOLE } from './tunnel/build.ts';

const SANITIZERS = 'address,undefined';

t.setTimeout(3_600_000);
const seconds = process.env['FUZZ_SECONDS'] ?? '5';
const seed = process.env['FUZZ_SEED'] ?? '1';
const builder = createBuilder();
t.teardown(() => builder.remove());

t.test('tables change under traffic without a data race', { timeout: 600_000 }, async (t) => {
  const program = builder.program('threads', ['threads.cc'], 'thread', WHOLE);
  // ThreadSanitizer of older compilers does not start under full address space randomisation.
  t.match(execFileSync('setarch', ['-R', program, seconds]).toString(), /received [1-9]/);
});

t.test('the core keeps to its memory and its format', { timeout: 600_000 }, async (t) => {
  const program = builder.program('core', ['core.cc'], SANITIZERS, CORE);
  const output = execFileSync(program, [seconds, seed], { maxBuffer: 64 << 20 }).toString();
  const lines = output.split('\n').map((line) => line.split(' '));

  const texts = lines.filter(([kind]) => kind === 'text');
  t.equal(texts.length, 20);
  for (const [, hex = ''] of texts)
    t.ok(decodeRecords(Buffer.from(hex, 'hex')).every(({ needsChecksum }) => needsChecksum));

  const key = Buffer.from(Array.from({ length: 32 }, (_, index) => index));
  const sealed = lines.filter(([kind]) => kind === 'sealed');
  t.equal(sealed.length, loadAddon().tunnelHasAegis() === 1 ? 15 : 10);
  for (const [, aead, length, hex] of sealed) {
    const text = Buffer.from(Array.from({ length: Number(length) }, (_, index) => index & 0xff));
    const additional = Buffer.alloc(16, 3);
    const { body, tag } =
      aead === '3'
        ? aegisSeal(key, Buffer.concat([Buffer.alloc(4), nonceOf(7n)]), additional, text)
        : sealBody(aead === '1' ? 1 : 2, key, nonceOf(7n), additional, text);
    t.equal(hex, Buffer.concat([body, tag]).toString('hex'), `AEAD ${aead}, ${length} bytes`);
  }
  t.match(output, /^rounds [1-9]\d*$/m);
});

t.test('the corpus and new inputs', { timeout: 600_000 }, async (t) => {
  const played = spawnSync(builder.program('inputs', ['inputs.cc', 'play.cc'], SANITIZERS, CORE), corpus());
  t.equal(
    played.status,
    0,
    played.status === 0 ? 'nothing is found' : played.stderr.toString().slice(-4_000),
  );
  if (!hasClang()) {
    t.comment('no clang++ here: only our own mutations above were tried');
    return;
  }
  const program = builder.program('fuzzer', ['inputs.cc'], `fuzzer,${SANITIZERS}`, CORE);
  const found = mkdtempSync(join(tmpdir(), 'arctic-corpus-'));
  t.teardown(() => rmSync(found, { recursive: true, force: true }));
  const limits = [`-max_total_time=${seconds}`, `-seed=${seed}`, '-max_len=4096', '-print_final_stats=1'];
  const { status, stderr } = spawnSync(program, [...limits, `-artifact_prefix=${found}/`, found, CORPUS], {
    maxBuffer: 64 << 20,
  });
  t.equal(status, 0, status === 0 ? 'nothing is found' : stderr.toString().slice(-4_000));
  t.match(stderr.toString(), /number_of_executed_units: [1-9]/);
});
