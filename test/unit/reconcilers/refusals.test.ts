/** Each errno at each request to the kernel: it is told, and got over by the next pass that meets none. */
import t from 'tap';
import { createProjections } from '../../../projections/runner.ts';
import { KernelError, type KernelFeatures } from '../../../src/kernel/contract.ts';
import { createFakeKernel, type KernelOperation } from '../../../src/kernel/kernel.fake.ts';
import { canonicalTable } from '../../../src/kernel/nft/canonical.ts';
import { createFirewallReconciler } from '../../../src/reconcilers/firewall.ts';
import { createNetworkReconciler } from '../../../src/reconcilers/network.ts';
import { passable } from '../../../src/reconcilers/pass.ts';
import { History, id, peer } from '../projections/history.ts';
import { MemoryLog } from '../projections/memory-log.ts';
import { makeRunner } from './harness.ts';
import { VirtualClock } from './virtual-clock.ts';

const OPERATIONS: readonly KernelOperation[] = [
  'features',
  'nft.generation',
  'nft.compareTable',
  'nft.replaceTable',
  'nft.changeTable',
  'rt.links',
  'rt.addresses',
  'rt.routes',
  'rt.rules',
  'rt.createMacvlan',
  'rt.setLink',
  'rt.addAddress',
  'rt.addRoute',
  'rt.addRule',
  'sysctl.read',
  'sysctl.write',
];
const ERRNOS = [
  ['EPERM', 1],
  ['ENOENT', 2],
  ['EINTR', 4],
  ['EAGAIN', 11],
  ['ENOMEM', 12],
  ['EBUSY', 16],
  ['EEXIST', 17],
  ['EINVAL', 22],
  ['ENFILE', 23],
  ['ENOSPC', 28],
  ['EOPNOTSUPP', 95],
  ['ENOBUFS', 105],
  ['ESTALE', 116],
  ['EUNKNOWN', 0],
] as const;

async function make(features: Partial<KernelFeatures> = {}) {
  const kernel = createFakeKernel({ sysctl: { 'net.ipv4.tcp_fwmark_accept': '0' }, features });
  await kernel.start();
  kernel.addDevice({ name: 'lan0', up: true, carrier: true, mac: '02:00:00:00:00:99' });
  const log = new MemoryLog();
  const history = new History();
  const projections = createProjections({ localPeer: peer(1) }, { log, clock: new VirtualClock() });
  projections.start();
  const memory = new Map<string, string>();
  const runner = makeRunner([
    {
      passable: passable(
        createNetworkReconciler(
          { parentInterface: 'lan0' },
          { kernel, desired: () => projections.desired('interfaces') },
        ),
      ),
      digest: () => projections.desiredDigest('interfaces'),
      wakesOn: ['interfaces'],
      watches: ['link', 'address', 'rule', 'route'],
    },
    {
      passable: passable(
        createFirewallReconciler(
          { listenPort: () => 17_000, firewallOwner: true },
          {
            kernel,
            desired: () => projections.desired('firewall'),
            changes: (since) => projections.firewallChanges(since),
            serviceName: (service) => projections.views.services.get(service as never)?.name ?? service,
            memory: { get: (key) => memory.get(key), set: (key, value) => void memory.set(key, value) },
          },
        ),
      ),
      digest: () => projections.desiredDigest('firewall'),
      wakesOn: ['firewall'],
      watches: ['nftables', 'rule', 'route', 'sysctl'],
    },
  ]);
  history.member(1);
  history.member(2);
  const service = history.service(peer(1), 1, peer(1), peer(2), {
    name: 'sydney-london',
    requires_interface: true,
    desired_ipv4_cidr: '10.77.0.1/24',
  });
  history.route(peer(1), 17, service, null, '10.9.0.0/16' as never, { number: 17 });
  const append = (): void => log.append(history.events.slice(log.events.length));
  append();
  projections.bus.on('changed', (name) => runner.changed(name));
  return { kernel, history, service, append, runner };
}

async function held(kernel: Awaited<ReturnType<typeof make>>['kernel']): Promise<string> {
  const { table } = await kernel.nft.readTable('inet', 'arctic');
  const links = (await kernel.rt.links()).map(({ name, up }) => [name, up]);
  const addresses = (await kernel.rt.addresses()).map(({ cidr }) => cidr);
  const rules = (await kernel.rt.rules()).map(({ priority, table: to, fwmark }) => [priority, to, fwmark]);
  const mark = await kernel.sysctl.read('net.ipv4.tcp_fwmark_accept');
  return JSON.stringify([table && canonicalTable(table), links, addresses.sort(), rules.sort(), mark]);
}

t.test('each errno at each request', async (t) => {
  const quiet = await make();
  await quiet.runner.reconcilers.start();
  await quiet.runner.clock.advance(1_000);
  t.ok(quiet.runner.reconcilers.status().every(({ state }) => state === 'applied'));
  const started = await held(quiet.kernel);
  quiet.history.route(peer(1), 18, quiet.service, null, '10.10.0.0/16' as never, { number: 18 });
  quiet.append();
  await quiet.runner.clock.advance(1_000);
  const changed = await held(quiet.kernel);
  t.not(changed, started);

  let told = 0;
  for (const operation of OPERATIONS)
    for (const [code, errno] of ERRNOS) {
      const { kernel, runner, history, service, append } = await make();
      const refusal = (): KernelError =>
        new KernelError(code, errno, `request ${operation}`, 'says the kernel');
      kernel.failNext(operation, refusal(), 2);
      await runner.reconcilers.start();
      await runner.clock.advance(200);
      kernel.failNext(operation, refusal(), 1);
      await runner.clock.advance(200_000);
      const name = `${code} at ${operation}`;
      if ((await held(kernel)) !== started) t.equal(await held(kernel), started, name);
      history.route(peer(1), 18, service, null, '10.10.0.0/16' as never, { number: 18 });
      kernel.failNext(operation, refusal(), 1);
      append();
      await runner.clock.advance(200_000);
      if ((await held(kernel)) !== changed) t.equal(await held(kernel), changed, `${name}, on a change`);
      const failed = runner.reconcilers.status().filter(({ state }) => state !== 'applied');
      if (failed.length > 0) t.strictSame(failed, [], name);
      if (
        runner.lines.some(
          ({ level, fields }) => level === 'error' && JSON.stringify(fields).includes(operation),
        )
      )
        told += 1;
    }
  t.ok(
    told > OPERATIONS.length * 8,
    `${told} of ${OPERATIONS.length * ERRNOS.length} were a line of the log; the rest was got over at once`,
  );
});

t.test('a refused element is told as the route it is', async (t) => {
  const { kernel, runner, history, service, append } = await make();
  await runner.reconcilers.start();
  await runner.clock.advance(1_000);
  const text = 'add element 0a0a0000 -> 01000041 of set m4_d16';
  const error = new KernelError('ENOSPC', 28, text, 'no room for it', 'elements[0].data');
  kernel.failNext('nft.changeTable', error);
  kernel.failNext('nft.replaceTable', error);
  history.route(peer(1), 18, service, null, '10.10.0.0/16' as never, { number: 18 });
  append();
  await runner.clock.advance(10);
  t.equal(
    runner.reconcilers.status().find(({ name }) => name === 'firewall')?.last_error,
    `route 18 of sydney-london: any -> 10.10.0.0/16: ${text}: no room for it (ENOSPC at elements[0].data)`,
  );
  t.match(runner.reconcilers.serviceStatus(id('svc', 1) as never).firewall, {
    state: 'failed',
    reason: /route 18/,
  });
  await runner.clock.advance(60_000);
  t.equal(runner.reconcilers.serviceStatus(id('svc', 1) as never).firewall.state, 'applied');
});

t.test('an older kernel: no owner flag, no DESTROY, no acknowledgement at the end', async (t) => {
  const { kernel, runner } = await make({
    nftOwner: false,
    nftPersist: false,
    nftDestroy: false,
    nftBatchEndAck: false,
  });
  kernel.watch((notice) => runner.notice(notice));
  await runner.reconcilers.start();
  await runner.clock.advance(1_000);
  const before = await held(kernel);
  t.ok(runner.reconcilers.status().every(({ state }) => state === 'applied'));
  t.not((await kernel.nft.readTable('inet', 'arctic')).table?.owned, true, 'the flag is not asked for');
  await kernel.other.nft.deleteTable('inet', 'arctic');
  await runner.clock.advance(1_000);
  t.equal(await held(kernel), before, 'what others take away comes back');
});
