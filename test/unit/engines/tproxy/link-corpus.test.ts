/**
 * The link state machine of the relay as it is built: a member plays every kept script, then for a moment what mutation makes of
 * them, other ones in each run. test/fuzz/relay.test.ts goes on for longer, and with sanitizers.
 */
import { spawnSync } from 'node:child_process';
import t from 'tap';
import { corpusOf, createBuilder } from '../../../fuzz/relay/build.ts';

t.test('no script of a member breaks the relay or its rules', { timeout: 300_000 }, async (t) => {
  const builder = createBuilder();
  t.teardown(() => builder.remove());
  const corpus = corpusOf('link');
  const program = builder.overAddon('link', ['link.cc', 'driver.cc']);
  // What is freed, or not yet written, is no plausible pointer (mallopt(3)).
  const options = { encoding: 'utf8', env: { ...process.env, MALLOC_PERTURB_: '165' } } as const;
  const { status, stdout, stderr } = spawnSync(program, corpus, options);
  t.equal(status, 0, stderr.slice(-2_000));
  t.equal(stdout, `${corpus.length} inputs\n`);

  const seed = String(Date.now() % 2 ** 31);
  const mutated = spawnSync(program, ['1', seed, ...corpus], options);
  t.equal(mutated.status, 0, `seed ${seed}\n${mutated.stderr.slice(-2_000)}`);
  t.match(mutated.stdout, /^\d+ inputs$/m);
});
