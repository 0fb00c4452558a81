/** What a member may not do, to the native relay as it is built. */
import { spawnSync } from 'node:child_process';
import t from 'tap';
import { createBuilder } from '../../../fuzz/relay/build.ts';

t.test('an exit refuses what a member may not do', { timeout: 300_000 }, async (t) => {
  const builder = createBuilder();
  t.teardown(() => builder.remove());
  const program = builder.overAddon('rules', ['rules.cc']);
  const { status, stdout, stderr } = spawnSync(program, { encoding: 'utf8', timeout: 60_000 });
  t.equal(status, 0, stderr.slice(-500));
  t.equal(stdout, 'refused\n');
});
