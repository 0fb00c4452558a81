import t from 'tap';
import type { PeerId } from '../../../events/brand.ts';
import { clockHoldReason } from '../../../src/gossip/machine/own-clock.ts';

const NAMES = ['paris', 'rome', 'oslo', 'bonn', 'kyiv'];
const views = {
  peers: { get: (id: string) => ({ name: NAMES[Number(id.slice(5))] }) },
} as unknown as Parameters<typeof clockHoldReason>[1];
/** Of the peers in order: how far each clock is from ours, ms; undefined when it is not known. */
const reason = (
  skews: readonly (number | undefined)[],
  state: 'active' | 'suspect' | 'unreachable' = 'active',
): string | undefined =>
  clockHoldReason(
    skews.map((skew, i) => ({ peer: `peer_${i}` as PeerId, state, skew })),
    views,
  );

t.test('a clock that is ahead of most others dates nothing', async (t) => {
  t.equal(reason([]), undefined, 'alone');
  t.equal(reason([0, -60_000]), undefined, 'within what peers take');
  t.equal(reason([600_000, 90_000]), undefined, 'behind');
  t.equal(reason([undefined, undefined]), undefined, 'nothing known');
  t.match(reason([-61_000]), /^its clock is 61 s ahead of that of paris, so /);
  t.equal(reason([-120_000, 0]), undefined, 'two of three agree');
  t.equal(reason([-120_000, -120_000, 0, 0]), undefined, 'three of five');
  t.match(reason([-120_000, -90_000, 0]), /is 90 s ahead of that of paris, rome, so /, 'by the least');
  t.match(reason([-9e9, -9e9, -9e9, -9e9, -9e9]), /ahead of that of paris, rome, oslo and 2 more, so /);
});

t.test('who does not answer has no say', async (t) => {
  t.equal(reason([-120_000], 'unreachable'), undefined);
  t.match(reason([-120_000], 'suspect'), /ahead/, 'one that may be gone has');
});
