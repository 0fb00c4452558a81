/** 1,000 whole tables replaced under 10,000 new connections: none bypasses the engine, none fails. */
import t from 'tap';
import { mayMakeNamespaces } from '../netns.ts';
import { makeLab } from './lab.ts';
import { swapUnderLoad } from './swaps.ts';

if (!mayMakeNamespaces()) t.bailout('these tests need root, to make network namespaces');

t.test('a swap is noticed by no connection', { timeout: 600_000 }, async (t) => {
  const { swaps, outcomes } = await swapUnderLoad(await makeLab(t), 1_000, 10_000);
  t.equal(swaps, 1_000);
  t.strictSame([...outcomes], [['taken', 10_000]]);
});
