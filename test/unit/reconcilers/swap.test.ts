/** A table that takes another's place looks twice at each packet until those under way have left. */
import t from 'tap';
import { createFakeKernel } from '../../../src/kernel/kernel.fake.ts';
import { canonicalTable } from '../../../src/kernel/nft/canonical.ts';
import { compileRuleset, SECOND_LOOK } from '../../../src/reconcilers/firewall/ruleset.ts';
import { lookingTwice, swapTable } from '../../../src/reconcilers/firewall/swap.ts';

const [frame] = compileRuleset(
  { services: [], classes: [], transparent_exit: true },
  { listenPort: 17_000, owned: false },
);

t.test('the second look is there while it is needed, and gone after', async (t) => {
  if (frame === undefined) throw new Error('no table');
  const kernel = createFakeKernel();
  await kernel.start();
  t.teardown(() => kernel.stop());
  await kernel.nft.replaceTable(frame);
  const held = async () => (await kernel.nft.readTable('inet', 'arctic')).table;
  let between: unknown;
  await swapTable(kernel.nft, frame, SECOND_LOOK, async () => {
    between = await held();
  });
  t.strictSame(between, canonicalTable(lookingTwice(frame, SECOND_LOOK)));
  t.strictSame(await held(), canonicalTable(frame));
});

t.test('it repeats the first behind what that has decided, and behind every hook of the first', async (t) => {
  if (frame === undefined) throw new Error('no table');
  const { chains } = lookingTwice(frame, SECOND_LOOK);
  for (const name of ['prerouting', 'input', 'output']) {
    const first = chains.find((chain) => chain.name === name);
    const again = chains.find((chain) => chain.name === `${name}_again`);
    const count = first?.rules.length ?? 0;
    t.ok(count > 0);
    t.strictSame(again?.rules.slice(-count), first?.rules);
    t.equal(again?.base?.hook, first?.base?.hook);
    t.equal(again?.base?.priority, (first?.base?.priority ?? 0) + 1);
  }
});

t.test('another program that commits meanwhile makes the rest stale', async (t) => {
  if (frame === undefined) throw new Error('no table');
  const kernel = createFakeKernel();
  await kernel.start();
  t.teardown(() => kernel.stop());
  const { generation } = await kernel.nft.replaceTable(frame);
  const meddle = async (): Promise<void> => {
    await kernel.other.nft.replaceTable({ family: 'inet', name: 'theirs', sets: [], chains: [] });
  };
  await t.rejects(swapTable(kernel.nft, frame, SECOND_LOOK, meddle, { generation }), { code: 'ESTALE' });
});
