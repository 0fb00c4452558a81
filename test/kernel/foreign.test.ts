/** What other programs do to our table: all of it must be readable as drift, and the owner flag must hold them off. */
import t from 'tap';
import { createKernel } from '../../src/kernel/kernel.ts';
import { canonicalTable } from '../../src/kernel/nft/canonical.ts';
import { exampleTable, routeElements } from './compliance/example-table.ts';
import { makeNetns } from './netns.ts';

const MEDDLING: readonly (readonly [what: string, command: string])[] = [
  ['a rule on top', 'insert rule inet arctic prerouting tcp dport { 22, 80 } accept'],
  ['a rule without a comment', 'add rule inet arctic apply drop'],
  ['a rule of an expression we have no schema for', 'add rule inet arctic apply numgen inc mod 2 0 accept'],
  [
    'a verdict map inside a rule',
    'add rule inet arctic apply meta l4proto vmap { tcp : accept, udp : drop }',
  ],
  ['a rate limit', 'add rule inet arctic apply limit rate 10/second accept'],
  ['a chain', 'add chain inet arctic extra'],
  ['a base chain', 'add chain inet arctic extra { type nat hook postrouting priority 100; }'],
  ['another policy', 'add chain inet arctic prerouting { policy drop; }'],
  [
    'an interval set',
    'add set inet arctic ranges { type ipv4_addr; flags interval; elements = { 10.0.0.0/8, 11.0.0.0-11.0.0.9 }; }',
  ],
  [
    'a set of concatenated ranges',
    'add set inet arctic both { type ipv4_addr . inet_service; flags interval; elements = { 10.0.0.0/8 . 80-90 }; }',
  ],
  [
    'a set of another type',
    'add set inet arctic ethers { type ether_addr; elements = { 02:00:00:00:00:01 }; }',
  ],
  [
    'a set with time-outs',
    'add set inet arctic timed { type ipv4_addr; flags timeout; elements = { 10.0.0.1 timeout 1h }; }',
  ],
  [
    'a verdict map',
    'add map inet arctic verdicts { type ipv4_addr : verdict; elements = { 10.0.0.1 : jump apply }; }',
  ],
  ['an element more', 'add element inet arctic ports { 443 }'],
  ['an element less', 'delete element inet arctic ports { 80 }'],
  ['a chain flushed', 'flush chain inet arctic apply'],
  ['the table gone', 'delete table inet arctic'],
];

t.test('whatever others do to the table reads as a difference and is repaired', async (t) => {
  const netns = await makeNetns('foreign');
  t.teardown(() => netns.remove());
  const kernel = createKernel({ netnsPath: netns.path });
  await kernel.start();
  t.teardown(() => kernel.stop());
  const table = exampleTable(routeElements(3));
  const wanted = canonicalTable(table);
  await kernel.nft.replaceTable(table);
  for (const [what, command] of MEDDLING) {
    await netns.exec('nft', command);
    const drifted = await kernel.nft.readTable('inet', 'arctic');
    t.strictNotSame(drifted.table, wanted, what);
    await kernel.nft.replaceTable(table, { generation: drifted.generation });
    t.strictSame((await kernel.nft.readTable('inet', 'arctic')).table, wanted, `${what}: repaired`);
  }
  await netns.exec('nft', 'add table inet theirs');
  t.strictSame(
    (await kernel.nft.readTable('inet', 'arctic')).table,
    wanted,
    'other tables are none of our business',
  );
});

t.test('an owned table is closed to others, survives a flush and is left to its next owner', async (t) => {
  const netns = await makeNetns('owner');
  t.teardown(() => netns.remove());
  const first = createKernel({ netnsPath: netns.path });
  const second = createKernel({ netnsPath: netns.path });
  await first.start();
  await second.start();
  t.teardown(async () => {
    await first.stop();
    await second.stop();
  });
  const table = { ...exampleTable(routeElements(3)), owned: true, persist: true };
  await first.nft.replaceTable(table);
  await t.rejects(netns.exec('nft', 'add', 'rule', 'inet', 'arctic', 'apply', 'drop'));
  await t.rejects(second.nft.replaceTable(table), { code: 'EPERM' });
  await netns.exec('nft', 'flush', 'ruleset');
  t.strictSame((await second.nft.readTable('inet', 'arctic')).table, canonicalTable(table));
  await first.stop();
  const left = await second.nft.readTable('inet', 'arctic');
  t.strictSame(left.table, canonicalTable({ ...table, owned: false }), 'it stays, without an owner');
  await second.nft.replaceTable(table);
  t.strictSame((await second.nft.readTable('inet', 'arctic')).table, canonicalTable(table));
});
