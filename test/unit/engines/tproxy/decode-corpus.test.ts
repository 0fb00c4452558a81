/**
 * The native relay's decoders under AddressSanitizer and UndefinedBehaviorSanitizer: every kept input, then for a moment what
 * mutation makes of them. Other inputs in each run; test/fuzz/relay.test.ts goes on for longer, and with the other targets.
 */
import { spawnSync } from 'node:child_process';
import t from 'tap';
import { corpusOf, createBuilder, DECODERS } from '../../../fuzz/relay/build.ts';

t.test('the corpus is decoded, or refused, within its memory', { timeout: 300_000 }, async (t) => {
  const builder = createBuilder();
  t.teardown(() => builder.remove());
  const corpus = corpusOf('decode');
  const program = builder.program('decode', ['decode.cc', 'driver.cc'], DECODERS);
  const { status, stdout, stderr } = spawnSync(program, corpus, { encoding: 'utf8' });
  t.equal(status, 0, stderr.slice(-2_000));
  t.equal(stdout, `${corpus.length} inputs\n`);

  const seed = String(Date.now() % 2 ** 31);
  const mutated = spawnSync(program, ['1', seed, ...corpus], { encoding: 'utf8' });
  t.equal(mutated.status, 0, `seed ${seed}\n${mutated.stderr.slice(-2_000)}`);
  t.match(mutated.stdout, /^\d+ inputs$/m);
});
