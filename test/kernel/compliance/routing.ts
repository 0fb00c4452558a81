/** What every Kernel must do with links, addresses, routes and policy rules. */
import type { Test } from 'tap';
import type { RouteRequest, RuleRequest } from '../../../src/kernel/contract.ts';
import { type MakeSubject, nextNotice, refused } from './subject.ts';

export function routingCompliance(t: Test, make: MakeSubject): void {
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
}
