/**
 * What every Kernel must do. Run against the fake and, inside a namespace, against Linux; there an independent reader
 * (nft, ip) looks at the result as well.
 */
import type { Test } from 'tap';
import type {
  Kernel,
  KernelNotice,
  NftElement,
  NftRule,
  NftSet,
  NftTable,
  RouteRequest,
  RuleRequest,
} from '../../src/kernel/contract.ts';
import { KernelError } from '../../src/kernel/contract.ts';
import { canonicalTable } from '../../src/kernel/nft/canonical.ts';
import {
  compare,
  counter,
  goTo,
  hostWord,
  IPPROTO_TCP,
  jumpTo,
  loadPayload,
  loadSocket,
  lookupMap,
  maskBytes,
  maskRegister,
  matchCtState,
  matchFamily,
  matchInputInterface,
  matchL4Protocol,
  matchLocalDestination,
  matchMark,
  rejectWithReset,
  setMark,
  storeMeta,
  tproxyTo,
  verdict,
} from '../../src/kernel/nft/expressions.ts';

export interface Subject {
  readonly kernel: Kernel;
  /** Index of a device a MACVLAN can stand on. */
  readonly parentIndex: number;
  /** Adds an empty table as another process; answers its pid and program. */
  addForeignTable(name: string): Promise<{ readonly pid: number | undefined; readonly program: string }>;
  /** Adds one element to a set of `inet arctic` as another process. */
  addForeignElement(set: string, element: NftElement): Promise<void>;
  /** `nft -j list table inet arctic` and `ip -j ...`, where there is such a reader. */
  readonly reader?: {
    readonly nft: (...args: readonly string[]) => Promise<string>;
    readonly ip: (...args: readonly string[]) => Promise<string>;
  };
}

const key4 = (source: number, destination: number) =>
  source.toString(16).padStart(8, '0') + destination.toString(16).padStart(8, '0');

export function routeElements(count: number, mark = 0x100): NftElement[] {
  return Array.from({ length: count }, (_, index) => ({
    key: key4(0x0a000000 + index, 0x0b000000 + index),
    data: hostWord(mark + (index % 64)),
  }));
}

const MAP4: NftSet = {
  name: 'routes4',
  keyTypes: ['ipv4_addr', 'ipv4_addr'],
  dataType: 'mark',
  elements: [],
};
const MAP6: NftSet = {
  name: 'routes6',
  keyTypes: ['ipv6_addr', 'ipv6_addr'],
  dataType: 'mark',
  elements: [{ key: `fd${'0'.repeat(30)}fd01${'0'.repeat(28)}`, data: hostWord(0x101) }],
};

/** One rule of a class of routes: mask both addresses, look the pair up, mark. */
function classRule(map: string, family: 'ipv4' | 'ipv6', prefixLength: number): NftRule {
  const size = family === 'ipv4' ? 4 : 16;
  const words = size / 4;
  const source = family === 'ipv4' ? 12 : 8;
  const mask = maskBytes(prefixLength, size);
  return {
    comment: `${map} /${prefixLength}`,
    expressions: [
      loadPayload('network', source, size, 0),
      maskRegister(mask, 0),
      loadPayload('network', source + size, size, words),
      maskRegister(mask, words),
      lookupMap(map, 0, 0),
      storeMeta('mark'),
      goTo('apply'),
    ],
  };
}

/** A table with one of everything the firewall uses. */
export function exampleTable(elements: readonly NftElement[]): NftTable {
  return {
    family: 'inet',
    name: 'arctic',
    sets: [
      { ...MAP4, elements },
      MAP6,
      {
        name: 'devices',
        keyTypes: ['ifname'],
        elements: [{ key: Buffer.from('eth0'.padEnd(16, '\0')).toString('hex') }],
      },
      { name: 'ports', keyTypes: ['inet_service'], elements: [{ key: '1f90' }, { key: '0050' }] },
    ],
    chains: [
      {
        name: 'prerouting',
        base: { type: 'filter', hook: 'prerouting', priority: -150, policy: 'accept' },
        rules: [
          {
            comment: 'established',
            expressions: [
              ...matchL4Protocol(IPPROTO_TCP),
              loadSocket('transparent'),
              compare('==', '01'),
              loadSocket('wildcard'),
              compare('==', '00'),
              ...setMark(0x77),
              verdict('accept'),
            ],
          },
          { comment: 'local', expressions: [...matchLocalDestination(), verdict('return')] },
          { comment: 'own', expressions: [...matchMark(0x100, 0xff00), counter(), verdict('accept')] },
          { comment: 'ipv4', expressions: [...matchFamily('ipv4'), jumpTo('classes4')] },
          { comment: 'ipv6', expressions: [...matchFamily('ipv6'), jumpTo('classes6')] },
          {
            comment: '',
            expressions: [...matchInputInterface('eth9'), ...matchCtState('new'), verdict('drop')],
          },
        ],
      },
      { name: 'classes4', rules: [classRule('routes4', 'ipv4', 32), classRule('routes4', 'ipv4', 9)] },
      { name: 'classes6', rules: [classRule('routes6', 'ipv6', 64)] },
      {
        name: 'apply',
        rules: [
          {
            comment: 'to the engine',
            expressions: [...matchL4Protocol(IPPROTO_TCP), ...tproxyTo(17000), verdict('accept')],
          },
          { comment: 'no listener', expressions: [...matchL4Protocol(IPPROTO_TCP), rejectWithReset()] },
          {
            comment: 'port',
            expressions: [loadPayload('transport', 2, 2), compare('!=', '0050'), verdict('return')],
          },
        ],
      },
    ],
  };
}

const codeOf = (error: unknown) => (error instanceof KernelError ? error.code : String(error));

async function refused(t: Test, work: Promise<unknown>, code: string, subject: RegExp): Promise<void> {
  try {
    await work;
    t.fail(`expected ${code}`);
  } catch (error) {
    t.equal(codeOf(error), code, String(error));
    t.match(error instanceof KernelError ? error.subject : '', subject, 'the error names our object');
  }
}

/** The next notice about a subsystem, for events that do come; the test's own time limit ends a wait in vain. */
function nextNotice(kernel: Kernel, wanted: (notice: KernelNotice) => boolean): Promise<KernelNotice> {
  return new Promise((resolve) => {
    const stop = kernel.watch((notice) => {
      if (!wanted(notice)) return;
      stop();
      resolve(notice);
    });
  });
}

/** `make` gives a started kernel in a state nobody else uses; the caller's teardown stops it. */
export function kernelCompliance(t: Test, make: (t: Test) => Promise<Subject>): void {
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

  t.test('links: makes, marks, addresses and removes a MACVLAN', async (t) => {
    const { kernel, parentIndex, reader } = await make(t);
    const noticed = nextNotice(kernel, ({ subsystem }) => subsystem === 'link');
    const request = {
      name: 'svc_01HXYZABCDE',
      parentIndex,
      mode: 'bridge',
      mac: '02:00:0a:0b:0c:0d',
      alias: 'arctic:svc_01HXYZABCDEF',
      mtu: 1400,
    } as const;
    const made = await kernel.rt.createMacvlan(request);
    t.match(made, {
      name: request.name,
      kind: 'macvlan',
      parentIndex,
      mac: request.mac,
      mtu: 1400,
      up: false,
    });
    await noticed;
    t.strictSame(
      (await kernel.rt.links()).find((link) => link.index === made.index),
      made,
    );
    await refused(t, kernel.rt.createMacvlan(request), 'EEXIST', /create interface svc_01HXYZABCDE/);
    await refused(
      t,
      kernel.rt.createMacvlan({ ...request, name: 'x', parentIndex: 99_999 }),
      'ENODEV',
      /99999/,
    );

    await kernel.rt.setLink(made.index, { up: true, alias: 'arctic:other' });
    const addresses = ['10.20.0.1/24', 'fd20::1/64'];
    for (const address of addresses) {
      await kernel.rt.addAddress(made.index, address);
      await kernel.rt.addAddress(made.index, address);
    }
    const mine = (await kernel.rt.addresses(made.index)).filter((address) => address.scope === 0);
    t.strictSame(mine.map((address) => address.cidr).sort(), addresses);
    t.strictSame([...new Set(mine.map((address) => address.protocol))], [200], 'tagged as ours');
    t.match(
      (await kernel.rt.links()).find((link) => link.index === made.index),
      { up: true, alias: 'arctic:other' },
    );
    if (reader !== undefined) {
      const shown = JSON.parse(
        await reader.ip('-j', '-d', 'address', 'show', 'dev', request.name),
      ) as unknown;
      t.match(shown, [
        {
          ifname: request.name,
          address: request.mac,
          linkinfo: { info_kind: 'macvlan', info_data: { mode: 'bridge' } },
        },
      ]);
    }
    await kernel.rt.deleteAddress(made.index, '10.20.0.1/24');
    await kernel.rt.deleteAddress(made.index, '10.20.0.1/24');
    t.notOk((await kernel.rt.addresses(made.index)).some((address) => address.family === 'ipv4'));
    await kernel.rt.deleteLink(made.index);
    await kernel.rt.deleteLink(made.index);
    t.notOk((await kernel.rt.links()).some((link) => link.index === made.index));
    await refused(t, kernel.rt.setLink(made.index, { up: true }), 'ENODEV', /change device/);
    await refused(t, kernel.rt.addAddress(made.index, '10.0.0.1/33'), 'EINVAL', /10\.0\.0\.1\/33/);
  });

  t.test('routing: policy rules and local routes, twice the same', async (t) => {
    const { kernel, reader } = await make(t);
    const lo = (await kernel.rt.links()).find((link) => link.name === 'lo')?.index ?? 0;
    const routes: RouteRequest[] = [
      { family: 'ipv4', table: 1000, type: 'local', destination: '0.0.0.0/0', oif: lo },
      { family: 'ipv6', table: 1000, type: 'local', destination: '::/0', oif: lo },
      { family: 'ipv4', table: 100, type: 'local', destination: '10.1.2.0/24', oif: lo, metric: 7 },
    ];
    const rules: RuleRequest[] = [
      { family: 'ipv4', priority: 100, table: 1000, fwmark: 0x77 },
      { family: 'ipv6', priority: 100, table: 1000, fwmark: 0x77 },
      {
        family: 'ipv4',
        priority: 101,
        table: 100,
        fwmark: 0x100,
        fwmask: 0xff00,
        source: '10.0.0.0/8',
        iif: 'lo',
      },
    ];
    for (let round = 0; round < 2; round += 1) {
      for (const route of routes) await kernel.rt.addRoute(route);
      for (const rule of rules) await kernel.rt.addRule(rule);
    }
    const ours = await kernel.rt.routes({ table: 1000 });
    t.match(ours, [
      { family: 'ipv4', type: 'local', destination: '0.0.0.0/0', oif: lo, protocol: 200 },
      { family: 'ipv6', type: 'local', destination: '::/0', oif: lo, protocol: 200 },
    ]);
    t.equal(ours.length, 2);
    const found = (await kernel.rt.rules()).filter((rule) => rule.protocol === 200);
    t.match(found, [
      { family: 'ipv4', priority: 100, table: 1000, fwmark: 0x77, fwmask: 0xffffffff },
      {
        family: 'ipv4',
        priority: 101,
        table: 100,
        fwmark: 0x100,
        fwmask: 0xff00,
        source: '10.0.0.0/8',
        iif: 'lo',
      },
      { family: 'ipv6', priority: 100, table: 1000, fwmark: 0x77, fwmask: 0xffffffff },
    ]);
    t.equal(found.length, 3, 'no rule twice');
    if (reader !== undefined) {
      t.match(await reader.ip('rule', 'show'), /100:\s+from all fwmark 0x77 lookup 1000 proto 200/);
      t.match(await reader.ip('-6', 'route', 'show', 'table', '1000'), /local default dev lo proto 200/);
    }
    await refused(
      t,
      kernel.rt.addRoute({
        family: 'ipv4',
        table: 100,
        type: 'local',
        destination: '10.1.2.0/24',
        oif: 99_999,
      }),
      'ENODEV',
      /add route 10\.1\.2\.0\/24 to table 100/,
    );
    for (let round = 0; round < 2; round += 1) {
      for (const route of routes) await kernel.rt.deleteRoute(route);
      for (const rule of rules) await kernel.rt.deleteRule(rule);
    }
    t.strictSame(await kernel.rt.routes({ table: 1000 }), []);
    t.notOk((await kernel.rt.rules()).some((rule) => rule.protocol === 200));
    t.ok(
      (await kernel.rt.rules('ipv4')).some((rule) => rule.priority === 32766),
      'the rules of the host are left',
    );
  });

  t.test('routing: another route in the place of ours is refused, not adopted', async (t) => {
    const { kernel, parentIndex } = await make(t);
    const lo = (await kernel.rt.links()).find((link) => link.name === 'lo')?.index ?? 0;
    const route = { family: 'ipv4', table: 100, type: 'local', destination: '10.5.0.0/16', oif: lo } as const;
    await kernel.rt.addRoute(route);
    await refused(t, kernel.rt.addRoute({ ...route, oif: parentIndex }), 'EEXIST', /10\.5\.0\.0\/16/);
    t.match(await kernel.rt.routes({ table: 100 }), [{ oif: lo }]);
  });

  t.test('parameters: reads, writes and knows what is missing', async (t) => {
    const { kernel, reader } = await make(t);
    t.equal(await kernel.sysctl.read('net.ipv4.ip_forward'), '0');
    await kernel.sysctl.write('net.ipv4.ip_forward', '1');
    t.equal(await kernel.sysctl.read('net.ipv4.ip_forward'), '1');
    if (reader !== undefined) t.match(await reader.ip('netconf', 'show', 'dev', 'lo'), /forwarding on/);
    t.equal(await kernel.sysctl.read('net.ipv4.no_such_key'), undefined);
    await refused(t, kernel.sysctl.write('net.ipv4.no_such_key', '1'), 'ENOENT', /no_such_key/);
    await refused(t, kernel.sysctl.read('net...etc.passwd'), 'EINVAL', /sysctl/);
  });

  t.test('lifecycle: features without lasting effect, and nothing after stop', async (t) => {
    const { kernel } = await make(t);
    const before = await kernel.nft.generation();
    const features = await kernel.features();
    t.ok(features.tproxy && features.nftDestroy && features.macvlan, JSON.stringify(features));
    t.equal(await kernel.nft.generation(), before);
    t.strictSame(await kernel.nft.listTables(), []);
    await kernel.stop();
    await kernel.stop();
    await refused(t, kernel.nft.generation(), 'EBADF', /kernel/);
    await refused(t, kernel.rt.links(), 'EBADF', /kernel/);
    await kernel.start();
    t.equal(await kernel.nft.generation(), before);
  });
}
