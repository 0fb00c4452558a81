import t from 'tap';
import type { Cidr } from '../../../events/brand.ts';
import type { DesiredInterface } from '../../../projections/desired/contract.ts';
import { KernelError } from '../../../src/kernel/contract.ts';
import { createFakeKernel, type FakeKernel } from '../../../src/kernel/kernel.fake.ts';
import { createNetworkReconciler } from '../../../src/reconcilers/network.ts';
import { serviceId } from './harness.ts';

const wanted = (n: number, settings: Partial<DesiredInterface> = {}): DesiredInterface => ({
  service_id: serviceId(n),
  name: `svc_${n}`,
  mac: `02:00:00:00:00:0${n}`,
  mark: 0x4100_0000 + n,
  ipv4_cidr: `10.5.0.${n}/24` as Cidr,
  ipv6_cidr: null,
  ...settings,
});

async function setup(desired: readonly DesiredInterface[], parentInterface: string | undefined = 'eth0') {
  const kernel: FakeKernel = createFakeKernel();
  await kernel.start();
  const parent = kernel.addDevice({ name: 'eth0', mac: '02:00:00:00:01:00' });
  const state = { desired };
  const reconciler = createNetworkReconciler({ parentInterface }, { kernel, desired: () => state.desired });
  const plan = async () => reconciler.plan(state.desired, await reconciler.observe());
  const pass = async () => {
    const planned = await plan();
    await reconciler.apply(planned);
    return planned;
  };
  const links = async () => (await kernel.rt.links()).map((link) => link.name).sort();
  return { kernel, parent, state, reconciler, plan, pass, links };
}

t.test('makes the interface of each service, with alias, address and MAC, and keeps it', async (t) => {
  const { kernel, pass, plan, parent } = await setup([
    wanted(1, { ipv6_cidr: 'fd00::1/64' as Cidr }),
    wanted(2),
  ]);
  await pass();
  const made = (await kernel.rt.links()).find((link) => link.name === 'svc_1');
  t.match(made, {
    kind: 'macvlan',
    parentIndex: parent.index,
    alias: `arctic:${serviceId(1)}`,
    mac: '02:00:00:00:00:01',
    up: true,
  });
  const cidrs = (await kernel.rt.addresses(made?.index)).map((address) => address.cidr);
  t.ok(cidrs.includes('10.5.0.1/24') && cidrs.includes('fd00::1/64'));
  t.strictSame((await plan()).differences, []);
});

t.test('a refusal names the device, not its index', async (t) => {
  const { kernel, parent, pass } = await setup([wanted(1)]);
  const subject = `create interface svc_1 on device ${parent.index}`;
  kernel.failNext(
    'rt.createMacvlan',
    new KernelError('EINVAL', 22, subject, 'the kernel refuses the value', 'info.data.mode'),
  );
  await t.rejects(pass(), {
    code: 'EINVAL',
    path: 'info.data.mode',
    message: 'create interface svc_1 on device eth0: the kernel refuses the value (EINVAL at info.data.mode)',
  });
});

t.test('changes addresses in place, and makes a device anew that is another', async (t) => {
  const { kernel, pass, plan, state } = await setup([wanted(1)]);
  await pass();
  const before = (await kernel.rt.links()).find((link) => link.name === 'svc_1');
  state.desired = [wanted(1, { ipv4_cidr: '10.6.0.1/16' as Cidr })];
  t.match((await pass()).differences, [
    { item: 'address 10.6.0.1/16 of svc_1', desired: 'present', observed: null },
    { item: 'address 10.5.0.1/24 of svc_1', desired: null, observed: 'present' },
  ]);
  t.equal((await kernel.rt.links()).find((link) => link.name === 'svc_1')?.index, before?.index);
  state.desired = [wanted(1, { mac: '02:00:00:00:00:0f' })];
  t.match((await plan()).steps, [{ kind: 'delete' }, { kind: 'create' }]);
  await pass();
  t.equal((await kernel.rt.links()).find((link) => link.name === 'svc_1')?.mac, '02:00:00:00:00:0f');
  t.strictSame((await plan()).differences, []);
});

t.test('a device of that name which is not ours is reported, never adopted, never removed', async (t) => {
  const { kernel, pass, links } = await setup([wanted(1), wanted(2)]);
  kernel.addDevice({ name: 'svc_1', kind: 'veth' });
  const planned = await pass();
  t.match(planned.problems, [
    { service_id: serviceId(1), reason: /svc_1 exists and is not Arctic's \(veth\)/ },
  ]);
  t.strictSame(await links(), ['eth0', 'lo', 'svc_1', 'svc_2'].sort());
  t.equal((await kernel.rt.links()).find((link) => link.name === 'svc_1')?.kind, 'veth');
});

t.test('of two services whose ids are cut to one name the older has the interface', async (t) => {
  const { pass, kernel } = await setup([wanted(1), wanted(2, { name: 'svc_1' })]);
  const planned = await pass();
  t.match(planned.problems, [{ service_id: serviceId(2), reason: /taken by svc_/ }]);
  t.equal((await kernel.rt.links()).find((link) => link.name === 'svc_1')?.alias, `arctic:${serviceId(1)}`);
});

t.test('ours that nobody wants any more go; a renamed foreign one stays', async (t) => {
  const { kernel, pass, state, links } = await setup([wanted(1), wanted(2)]);
  await pass();
  kernel.addDevice({ name: 'svc_9', alias: 'arctic:something else' });
  state.desired = [wanted(2)];
  t.match((await pass()).differences, [{ item: 'interface svc_1', desired: null }]);
  t.strictSame(await links(), ['eth0', 'lo', 'svc_2', 'svc_9'].sort());
});

t.test(
  'a device whose maker was killed before it set the alias is made anew; one of no group stays',
  async (t) => {
    const { kernel, pass, plan, state } = await setup([wanted(1)]);
    kernel.addDevice({ name: 'svc_1', kind: 'macvlan', group: 4100 });
    kernel.addDevice({ name: 'svc_3', kind: 'macvlan', group: 4100 });
    kernel.addDevice({ name: 'svc_4', kind: 'macvlan' });
    await pass();
    const links = new Map((await kernel.rt.links()).map(({ name, alias }) => [name, alias]));
    t.equal(links.get('svc_1'), `arctic:${serviceId(1)}`);
    t.notOk(links.has('svc_3'), 'also when nobody wants it any more');
    t.ok(links.has('svc_4'));
    t.strictSame((await plan()).differences, []);
    state.desired = [];
    await pass();
    t.ok((await kernel.rt.links()).some(({ name }) => name === 'svc_4'));
  },
);

t.test('without a parent interface it says which is missing', async (t) => {
  const named = await setup([wanted(1)], 'eth7');
  t.match((await named.pass()).problems, [
    { reason: /parent interface eth7 \(PARENT_INTERFACE\) does not exist/ },
  ]);
  const { kernel, parent, reconciler } = await setup([wanted(1)]);
  const byRoute = createNetworkReconciler(
    { parentInterface: undefined },
    { kernel, desired: () => [wanted(1)] },
  );
  t.match(byRoute.plan([wanted(1)], await byRoute.observe()).problems, [{ reason: /no default route/ }]);
  await kernel.rt.addAddress(parent.index, '192.0.2.2/24');
  await kernel.rt.setLink(parent.index, { up: true });
  await kernel.rt.addRoute({
    family: 'ipv4',
    table: 254,
    type: 'unicast',
    destination: '0.0.0.0/0',
    gateway: '192.0.2.1',
    oif: parent.index,
  });
  t.match(byRoute.plan([wanted(1)], await byRoute.observe()).steps, [
    { kind: 'create', parentIndex: parent.index },
  ]);
  t.equal(reconciler.name, 'network');
});

t.test(
  'an IPv4 address of another host: not used if it was there before, kept if it came later',
  async (t) => {
    const { kernel, pass } = await setup([wanted(1)]);
    const cidrs = async () => (await kernel.rt.addresses()).map(({ cidr }) => cidr);
    await pass();
    kernel.contest('10.5.0.1', '02:00:00:00:0a:0a', true);
    const before = await pass();
    t.match(before.problems, [
      {
        service_id: serviceId(1),
        reason: /another host \(02:00:00:00:0a:0a\).* has the address 10\.5\.0\.1\/24/,
      },
    ]);
    t.strictSame(await cidrs(), []);
    t.strictSame((await pass()).differences, []);
    kernel.contest('10.5.0.1', undefined);
    t.strictSame((await pass()).problems, []);
    t.strictSame(await cidrs(), ['10.5.0.1/24'], 'back once nobody else has it');
    kernel.contest('10.5.0.1', '02:00:00:00:0a:0a', false);
    const later = await pass();
    t.match(later.problems, [{ reason: /02:00:00:00:0a:0a/ }]);
    t.strictSame(later.differences, [], 'what was ours is defended');
    kernel.contest('10.5.0.1', '02:00:00:00:01:00', true);
    t.strictSame((await pass()).problems, [], 'an answer of another device of this host is none');
  },
);

t.test('a shutdown leaves interfaces, an uninstall takes ours and only ours', async (t) => {
  const { pass, reconciler, links } = await setup([wanted(1)]);
  await pass();
  await reconciler.cleanup('shutdown');
  t.ok((await links()).includes('svc_1'));
  await reconciler.cleanup('all');
  t.strictSame(await links(), ['eth0', 'lo']);
});
