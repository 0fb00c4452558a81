/** Interfaces of services on the real kernel, read back by `ip`. */
import t, { type Test } from 'tap';
import type { Cidr } from '../../../events/brand.ts';
import { type DesiredInterface, MARK } from '../../../projections/desired/contract.ts';
import { createKernel } from '../../../src/kernel/kernel.ts';
import { createNetworkReconciler } from '../../../src/reconcilers/network.ts';
import { makeNetns, mayMakeNamespaces } from '../netns.ts';
import { serviceId } from './lab.ts';

if (!mayMakeNamespaces()) t.bailout('these tests need root, to make network namespaces');

const NAME = 'svc_1';
const one: DesiredInterface = {
  service_id: serviceId(1),
  name: NAME,
  mac: '02:00:00:00:00:01',
  mark: (MARK.service | 0x77) >>> 0,
  ipv4_cidr: '10.77.0.1/24' as Cidr,
  ipv6_cidr: 'fd77::1/64' as Cidr,
};
const TABLE = String(one.mark);

async function setup(t: Test) {
  const [host, far] = await Promise.all([makeNetns('host'), makeNetns('far')]);
  const kernel = createKernel({ netnsPath: host.path });
  await kernel.start();
  t.teardown(async () => {
    await kernel.stop();
    host.remove();
    far.remove();
  });
  const ip = (...args: string[]): Promise<string> => host.exec('ip', ...args);
  const plug = async (): Promise<void> => {
    await ip('link', 'add', 'lan0', 'type', 'veth', 'peer', 'name', 'far0', 'netns', far.name);
    await far.exec('ip', 'link', 'set', 'far0', 'up');
    await ip('link', 'set', 'lan0', 'up');
    await ip('address', 'add', '10.77.0.2/24', 'dev', 'lan0');
    await ip('route', 'add', 'default', 'via', '10.77.0.254', 'dev', 'lan0');
  };
  await plug();
  const state: { desired: readonly DesiredInterface[] } = { desired: [one] };
  const reconciler = createNetworkReconciler(
    { parentInterface: 'lan0' },
    { kernel, desired: () => state.desired },
  );
  const pass = async () => {
    const plan = reconciler.plan(state.desired, await reconciler.observe());
    await reconciler.apply(plan);
    return plan;
  };
  return { host, far, ip, plug, kernel, state, reconciler, pass };
}

t.test('what is sent from its address, or for its clients, leaves by the interface', async (t) => {
  const { ip, pass, state, reconciler } = await setup(t);
  await ip('rule', 'add', 'priority', '4200', 'from', '10.99.0.1', 'lookup', '99');
  const before = { rules: await ip('rule'), rules6: await ip('-6', 'rule') };
  t.strictSame((await pass()).problems, []);
  t.strictSame((await pass()).differences, [], 'in place after one pass');
  t.match(
    await ip('route', 'get', '8.8.8.8', 'from', '10.77.0.1'),
    new RegExp(`via 10.77.0.254 dev ${NAME}`),
  );
  t.match(await ip('route', 'get', '8.8.8.8'), /via 10.77.0.254 dev lan0/, 'the host itself as before');
  t.match(
    await ip('route', 'get', '10.77.0.9', 'mark', String((MARK.own | 0x77) >>> 0)),
    new RegExp(`dev ${NAME}`),
    'the engine, for a client of the service',
  );
  t.match(await ip('-6', 'rule'), /from fd77::1 lookup/);

  await ip('rule', 'delete', 'from', '10.77.0.1', 'lookup', TABLE);
  await ip('route', 'flush', 'table', TABLE);
  t.match(
    (await pass()).differences.map(({ item }) => item),
    [/route 10.77.0.0\/24/, /route 0.0.0.0\/0 via 10.77.0.254/, /ip rule 4200 ipv4 from 10.77.0.1\/32/],
  );
  t.strictSame((await pass()).differences, []);

  state.desired = [{ ...one, ipv4_cidr: '10.78.0.1/24' as Cidr }];
  await pass();
  t.strictSame((await pass()).differences, []);
  t.notMatch(await ip('rule'), /10\.77\.0\.1 /);
  t.notMatch(await ip('route', 'show', 'table', TABLE), /default/, 'no gateway in that network');

  state.desired = [];
  await pass();
  t.equal(await ip('rule'), before.rules, 'what others have at our priority stays');
  t.equal(await ip('-6', 'rule'), before.rules6);
  state.desired = [one];
  await pass();
  await reconciler.cleanup('all');
  t.equal(await ip('rule'), before.rules);
  t.notMatch(await ip('link'), new RegExp(NAME));
});

t.test('a parent that goes, is renamed, or comes back', async (t) => {
  const { ip, pass, plug } = await setup(t);
  await pass();
  const mac = async (): Promise<string> =>
    /link\/ether (\S+)/.exec(await ip('link', 'show', NAME))?.[1] ?? '';
  t.equal(await mac(), one.mac);

  await ip('link', 'set', 'lan0', 'down');
  await ip('link', 'set', 'lan0', 'name', 'lan9');
  await ip('link', 'set', 'lan9', 'up');
  t.match((await pass()).problems, [{ reason: /lan0 \(PARENT_INTERFACE\) does not exist/ }]);
  t.equal(await mac(), one.mac, 'the interface stays while its parent has another name');
  await ip('address', 'delete', '10.77.0.1/24', 'dev', NAME);
  await pass();
  t.match(await ip('address', 'show', 'dev', NAME), /10\.77\.0\.1\/24/, 'and is looked after');

  await ip('link', 'delete', 'lan9');
  t.match((await pass()).problems, [{ reason: /does not exist/ }]);
  await plug();
  t.strictSame((await pass()).problems, []);
  t.equal(await mac(), one.mac, 'the same address as before');
  t.strictSame((await pass()).differences, []);
  await ip('link', 'set', 'lan0', 'down');
  t.match((await pass()).problems, [{ reason: /is down: ip link set lan0 up/ }]);
});

t.test('an address that another host has is a problem of its service', async (t) => {
  const { far, pass } = await setup(t);
  await far.exec('sh', '-c', 'echo 0 > /proc/sys/net/ipv6/conf/far0/accept_dad');
  await far.exec('ip', 'address', 'add', 'fd77::1/64', 'dev', 'far0', 'nodad');
  await pass();
  let problems: readonly { readonly reason: string }[] = [];
  for (let tries = 0; problems.length === 0 && tries < 400; tries += 1) {
    await new Promise((resolve) => setTimeout(resolve, 25));
    ({ problems } = await pass());
  }
  t.match(problems, [{ reason: /another host on the network of svc_1 has the address fd77::1\/64/ }]);
});

t.test('an IPv4 address that another host has is not used, and its device is named', async (t) => {
  const { far, ip, pass, kernel } = await setup(t);
  await far.exec('ip', 'address', 'add', '10.77.0.1/24', 'dev', 'far0');
  const mac = /link\/ether (\S+)/.exec(await far.exec('ip', 'link', 'show', 'far0'))?.[1] ?? '';
  // The namespace's other devices answer for every address of it: they are no other host.
  await ip('address', 'add', '10.77.0.3/24', 'dev', 'lan0');
  let told = 0;
  t.teardown(kernel.watch(({ subsystem }) => (told += subsystem === 'address' ? 1 : 0)));
  await pass();
  let problems: readonly { readonly reason: string }[] = [];
  for (let tries = 0; problems.length === 0 && tries < 400; tries += 1) {
    await new Promise((resolve) => setTimeout(resolve, 25));
    ({ problems } = await pass());
  }
  t.strictSame(problems, [
    {
      service_id: one.service_id,
      reason: `another host (${mac}) on the network of svc_1 has the address 10.77.0.1/24 (duplicate address detection): give the service another`,
    },
  ]);
  t.ok(told > 0, 'a notice wakes the reconciler');
  t.notMatch(await ip('address', 'show', 'dev', NAME), /10\.77\.0\.1/, 'it was there before us');
  t.strictSame((await pass()).differences, [], 'and nothing else is to do');
});

t.test('a name that is taken is never adopted', async (t) => {
  const { ip, pass, state } = await setup(t);
  await ip('link', 'add', NAME, 'link', 'lan0', 'type', 'macvlan', 'mode', 'bridge');
  const theirs = await ip('link', 'show', NAME);
  t.match((await pass()).problems, [{ reason: /exists and is not Arctic's/ }]);
  state.desired = [];
  await pass();
  t.equal(await ip('link', 'show', NAME), theirs);
});
