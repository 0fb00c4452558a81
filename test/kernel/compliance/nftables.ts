/** What every Kernel must do with tables, sets and rules. */
import type { Test } from 'tap';
import type { KernelNotice, NftExpectedSet, NftSet, NftTable } from '../../../src/kernel/contract.ts';
import { canonicalTable } from '../../../src/kernel/nft/canonical.ts';
import { hostWord, jumpTo, matchFamily } from '../../../src/kernel/nft/expressions.ts';
import { classRule, exampleTable, MAP4, routeElements } from './example-table.ts';
import { type MakeSubject, nextNotice, refused } from './subject.ts';

export function nftablesCompliance(t: Test, make: MakeSubject): void {
  t.test('nftables: replaces a table and reads back what was given', async (t) => {
    const { kernel, reader } = await make(t);
    t.equal((await kernel.nft.readTable('inet', 'arctic')).table, undefined);
    const table = exampleTable(routeElements(3));
    const { generation } = await kernel.nft.replaceTable(table);
    const snapshot = await kernel.nft.readTable('inet', 'arctic');
    t.strictSame(snapshot.table, canonicalTable(table));
    t.equal(snapshot.generation, generation);
    t.strictSame(await kernel.nft.listTables(), [{ family: 'inet', name: 'arctic' }]);
    if (reader !== undefined) {
      const listed = await reader.nft('list', 'table', 'inet', 'arctic');
      for (const text of [
        '10.0.0.1 . 11.0.0.1 : 0x00000101',
        'fd00:: . fd01:: : 0x00000101',
        'elements = { "eth0" }',
        'type filter hook prerouting priority mangle; policy accept;',
        'meta l4proto tcp socket transparent 1 socket wildcard 0 meta mark set 0x00000077 accept comment "established"',
        'fib daddr type local return comment "local"',
        'meta mark & 0x0000ff00 == 0x00000100 counter packets',
        'meta nfproto ipv6 jump classes6 comment "ipv6"',
        'map @routes6 goto apply comment "routes6 /64"',
        'meta l4proto tcp tproxy to :17000 accept comment "to the engine"',
        'meta l4proto tcp reject with tcp reset comment "no listener"',
      ]) {
        t.ok(listed.includes(text), `nft list shows ${text}\n${listed}`);
      }
    }

    const smaller = { ...table, sets: table.sets.slice(0, 2) };
    const again = await kernel.nft.replaceTable(smaller, { generation });
    t.equal(again.generation, generation + 1);
    t.strictSame((await kernel.nft.readTable('inet', 'arctic')).table, canonicalTable(smaller));

    await kernel.nft.deleteTable('inet', 'arctic');
    t.equal((await kernel.nft.readTable('inet', 'arctic')).table, undefined);
    const before = await kernel.nft.generation();
    t.equal(
      (await kernel.nft.deleteTable('inet', 'arctic')).generation,
      before,
      'deleting nothing changes nothing',
    );
  });

  t.test('nftables: adds, deletes and changes elements', async (t) => {
    const { kernel } = await make(t);
    const [a, b, c] = routeElements(3);
    if (a === undefined || b === undefined || c === undefined) throw new Error('three elements');
    const table = exampleTable([a, b]);
    const first = await kernel.nft.replaceTable(table);
    const second = await kernel.nft.changeTable(
      table,
      [
        { kind: 'add-elements', set: 'routes4', elements: [c] },
        { kind: 'delete-elements', set: 'routes4', elements: [a] },
      ],
      first,
    );
    t.equal(second.generation, first.generation + 1);
    const changed = { ...b, data: hostWord(0x999) };
    const steps = [
      { kind: 'delete-elements', set: 'routes4', elements: [b] },
      { kind: 'add-elements', set: 'routes4', elements: [changed] },
    ] as const;
    await kernel.nft.changeTable(table, steps, second);
    t.strictSame(
      (await kernel.nft.readTable('inet', 'arctic')).table,
      canonicalTable(exampleTable([changed, c])),
    );

    const now = await kernel.nft.generation();
    const repeated = await kernel.nft.changeTable(table, [
      { kind: 'add-elements', set: 'routes4', elements: [c] },
    ]);
    t.equal(repeated.generation, now, 'adding what is there changes nothing');
    t.equal((await kernel.nft.changeTable(table, [])).generation, now);
  });

  t.test('nftables: compares elements with what they should be, again and again', async (t) => {
    const { kernel } = await make(t);
    const [a, b, c] = routeElements(3);
    if (a === undefined || b === undefined || c === undefined) throw new Error('three elements');
    const table = exampleTable([a, b]);
    await kernel.nft.replaceTable(table);
    const elements = new Map([a, b].map((one) => [one.key, { ...one, seen: undefined }]));
    const routes: NftExpectedSet = { ...MAP4, elements };
    const deviations = async () =>
      (await kernel.nft.compareTable('inet', 'arctic', new Map([[routes.name, routes]]))).deviations.map(
        ({ missing, foreign }) => [missing.map(({ key }) => key), foreign.map(({ key }) => key)],
      );
    t.strictSame(await deviations(), []);
    t.strictSame(await deviations(), [], 'what was right and has not changed');
    await kernel.nft.changeTable(table, [{ kind: 'add-elements', set: MAP4.name, elements: [c] }]);
    t.strictSame(await deviations(), [[[], [c.key]]], 'changed in the kernel');
    await kernel.nft.changeTable(table, [{ kind: 'delete-elements', set: MAP4.name, elements: [c] }]);
    t.strictSame(await deviations(), []);
    elements.set(c.key, { ...c, seen: undefined });
    routes.verified = undefined;
    t.strictSame(await deviations(), [[[c.key], []]], 'expected otherwise');
    await kernel.nft.replaceTable(exampleTable([{ ...a, data: hostWord(7) }, b, c]));
    t.strictSame(await deviations(), [[[a.key], [a.key]]], 'another value');
  });

  t.test('nftables: a refused transaction changes nothing and names our object', async (t) => {
    const { kernel } = await make(t);
    const elements = routeElements(4);
    const [a, b] = elements;
    if (a === undefined || b === undefined) throw new Error('two elements');
    const table = exampleTable(elements);
    await kernel.nft.replaceTable(table);
    const before = await kernel.nft.readTable('inet', 'arctic');
    const fresh = { key: 'ff'.repeat(8), data: hostWord(1) };
    const change = (...changes: Parameters<typeof kernel.nft.changeTable>[1]) =>
      kernel.nft.changeTable(table, changes);

    await refused(
      t,
      change({ kind: 'add-elements', set: 'routes4', elements: [fresh, { ...b, data: hostWord(7) }] }),
      'EEXIST',
      new RegExp(`add element ${b.key} -> ${hostWord(7)} of set routes4`),
    );
    await refused(
      t,
      change(
        { kind: 'delete-elements', set: 'routes4', elements: [a] },
        { kind: 'delete-elements', set: 'routes4', elements: [fresh] },
      ),
      'ENOENT',
      new RegExp(`delete element ${fresh.key} of set routes4`),
    );
    await refused(
      t,
      change({
        kind: 'replace-rules',
        chain: 'apply',
        rules: [{ comment: 'lost', expressions: [...matchFamily('ipv4'), jumpTo('nowhere')] }],
      }),
      'ENOENT',
      /add rule 0 \(lost\) to chain apply/,
    );
    await refused(
      t,
      change({ kind: 'replace-rules', chain: 'nowhere', rules: [] }),
      'ENOENT',
      /chain nowhere/,
    );
    await refused(t, change({ kind: 'delete-set', set: 'routes4' }), 'EBUSY', /delete set routes4/);
    await refused(
      t,
      change({ kind: 'add-elements', set: 'routes4', elements: [{ key: '0a', data: hostWord(1) }] }),
      'EINVAL',
      /element 0a .* of set routes4/,
    );
    await refused(
      t,
      kernel.nft.replaceTable({ ...table, sets: [] }),
      'ENOENT',
      /add rule 0 \(routes4 \/32\) to chain classes4/,
    );
    await refused(
      t,
      kernel.nft.replaceTable(table, { generation: before.generation + 1 }),
      'ESTALE',
      /inet arctic/,
    );
    t.strictSame(await kernel.nft.readTable('inet', 'arctic'), before);
  });

  t.test('nftables: a class of routes comes and goes with its set and rules', async (t) => {
    const { kernel } = await make(t);
    const table = exampleTable(routeElements(2));
    await kernel.nft.replaceTable(table);
    const set: NftSet = { ...MAP4, name: 'routes4_new', elements: routeElements(5, 0x200) };
    const rules = [classRule('routes4_new', 'ipv4', 24), classRule('routes4', 'ipv4', 32)];
    await kernel.nft.changeTable(table, [
      { kind: 'add-set', set },
      { kind: 'replace-rules', chain: 'classes4', rules },
    ]);
    const chains = table.chains.map((chain) => (chain.name === 'classes4' ? { ...chain, rules } : chain));
    const grown: NftTable = { ...table, sets: [...table.sets, set], chains };
    t.strictSame((await kernel.nft.readTable('inet', 'arctic')).table, canonicalTable(grown));

    const original = table.chains.find((chain) => chain.name === 'classes4')?.rules ?? [];
    await kernel.nft.changeTable(grown, [
      { kind: 'replace-rules', chain: 'classes4', rules: original },
      { kind: 'delete-set', set: 'routes4_new' },
    ]);
    t.strictSame((await kernel.nft.readTable('inet', 'arctic')).table, canonicalTable(table));
  });

  t.test('nftables: 10,000 elements', async (t) => {
    const { kernel } = await make(t);
    const table = exampleTable(routeElements(10_000));
    await kernel.nft.replaceTable(table);
    t.strictSame((await kernel.nft.readTable('inet', 'arctic')).table, canonicalTable(table));
    const next = exampleTable(routeElements(10_000, 0x4000));
    await kernel.nft.changeTable(table, [
      { kind: 'delete-elements', set: 'routes4', elements: routeElements(10_000) },
      { kind: 'add-elements', set: 'routes4', elements: routeElements(10_000, 0x4000) },
    ]);
    t.strictSame((await kernel.nft.readTable('inet', 'arctic')).table, canonicalTable(next));
    const wrong = { key: routeElements(6000)[5999]?.key ?? '', data: hostWord(3) };
    await refused(
      t,
      kernel.nft.changeTable(next, [
        { kind: 'add-elements', set: 'routes4', elements: [...routeElements(5000, 0x4000), wrong] },
      ]),
      'EEXIST',
      new RegExp(`add element ${wrong.key}`),
    );
  });

  t.test('nftables: tells who else committed, and keeps our own commits back', async (t) => {
    const { kernel, addForeignTable, addForeignElement } = await make(t);
    const seen: KernelNotice[] = [];
    t.teardown(kernel.watch((notice) => seen.push(notice)));
    const table = exampleTable(routeElements(2000));
    const ours = await kernel.nft.replaceTable(table);
    await kernel.nft.replaceTable(table);
    const notice = nextNotice(kernel, ({ subsystem }) => subsystem === 'nftables');
    const foreign = await addForeignTable('guest');
    t.match(await notice, { own: false, program: foreign.program, overrun: false });
    if (foreign.pid !== undefined) t.equal((await notice).pid, foreign.pid);
    t.equal(
      seen.filter(({ subsystem }) => subsystem === 'nftables').length,
      1,
      'one notice for one transaction',
    );

    t.equal(await kernel.nft.isOursSince(ours.generation), false);
    await refused(t, kernel.nft.replaceTable(table, ours), 'ESTALE', /inet arctic/);
    const drift = { key: '01'.repeat(8), data: hostWord(9) };
    await addForeignElement('routes4', drift);
    const { table: drifted } = await kernel.nft.readTable('inet', 'arctic');
    t.strictSame(drifted, canonicalTable(exampleTable([...routeElements(2000), drift])), 'drift is readable');
  });

  t.test('nftables: our own commits to other tables do not make a generation stale', async (t) => {
    const { kernel, addForeignTable } = await make(t);
    const table = exampleTable(routeElements(2));
    const first = await kernel.nft.replaceTable(table);
    await kernel.nft.replaceTable({ ...table, name: 'arctic_iptun' });
    t.equal(await kernel.nft.isOursSince(first.generation), true);
    const second = await kernel.nft.replaceTable(table, first);
    t.equal(await kernel.nft.generation(), second.generation);
    await addForeignTable('guest');
    t.equal(await kernel.nft.isOursSince(second.generation), false);
    await kernel.nft.replaceTable({ ...table, name: 'arctic_iptun' });
    t.equal(await kernel.nft.isOursSince(second.generation), false, 'nor do they hide a foreign one');
    await refused(t, kernel.nft.replaceTable(table, second), 'ESTALE', /inet arctic/);
  });

  t.test('nftables: an owned table goes with its owner', async (t) => {
    const { kernel } = await make(t);
    const table = { ...exampleTable([]), owned: true };
    await kernel.nft.replaceTable(table);
    t.strictSame((await kernel.nft.readTable('inet', 'arctic')).table, canonicalTable(table));
    await kernel.nft.replaceTable(table);
    await kernel.stop();
    await kernel.start();
    t.equal((await kernel.nft.readTable('inet', 'arctic')).table, undefined);
  });
}
