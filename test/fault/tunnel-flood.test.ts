/** The flood of test/kernel/iptun/hostile.test.ts in full. */
import t from 'tap';
import { checkFlood } from '../kernel/iptun/flood.ts';
import { mayMakeNamespaces } from '../kernel/netns.ts';

if (!mayMakeNamespaces()) t.bailout('these tests need root to make network namespaces');

t.test('1,000,000 bad datagrams', { timeout: 600_000 }, (t) => checkFlood(t, 1_000_000, 10_000));
