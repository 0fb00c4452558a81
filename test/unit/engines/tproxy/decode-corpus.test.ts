/** Every kept input of the native relay's decoders, under AddressSanitizer and UndefinedBehaviorSanitizer. */
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
});
