/**
 * The tunnel's core as it is built, given what others may give it: every kept input. test/fuzz/tunnel.test.ts goes on from them,
 * and with sanitizers.
 */
import { spawnSync } from 'node:child_process';
import t from 'tap';
import { CORE, corpus, createBuilder } from '../../../fuzz/tunnel/build.ts';

t.test('no kept input breaks the core or its rules', { timeout: 300_000 }, async (t) => {
  const builder = createBuilder();
  t.teardown(() => builder.remove());
  const inputs = corpus();
  const program = builder.overAddon('inputs', ['inputs.cc', 'play.cc'], CORE);
  // What is freed, or not yet written, is no plausible pointer (mallopt(3)).
  const env = { ...process.env, MALLOC_PERTURB_: '165' };
  const { status, stdout, stderr } = spawnSync(program, inputs, { encoding: 'utf8', env });
  t.equal(status, 0, status === 0 ? 'nothing is found' : stderr.slice(-500));
  t.equal(stdout, `${inputs.length} inputs\n`);
});
