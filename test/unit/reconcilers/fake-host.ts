/** A host with a fake kernel, projections and the reconcilers that write to it, and everything they made there. */

import { createProjections } from '../../../projections/runner.ts';
import type { KernelFeatures } from '../../../src/kernel/contract.ts';
import { createFakeKernel, type FakeKernel } from '../../../src/kernel/kernel.fake.ts';
import { canonicalTable } from '../../../src/kernel/nft/canonical.ts';
import { History, peer } from '../projections/history.ts';
import { MemoryLog } from '../projections/memory-log.ts';
import { makeRunner } from './harness.ts';
import { kernelReconcilers } from './kernel-reconcilers.ts';
import { VirtualClock } from './virtual-clock.ts';

/** Errnos a request may be refused with, ESTALE and EUNKNOWN being our own words. */
export const ERRNOS = [
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

/** One service with an interface and a route, number 17. */
export async function makeHost(features: Partial<KernelFeatures> = {}) {
  const kernel = createFakeKernel({ sysctl: { 'net.ipv4.tcp_fwmark_accept': '0' }, features });
  await kernel.start();
  kernel.addDevice({ name: 'lan0', up: true, carrier: true, mac: '02:00:00:00:00:99' });
  const log = new MemoryLog();
  const history = new History();
  const projections = createProjections({ localPeer: peer(1) }, { log, clock: new VirtualClock() });
  projections.start();
  const runner = makeRunner(
    kernelReconcilers({
      kernel,
      projections,
      owned: true,
      serviceName: (service) => projections.views.services.get(service as never)?.name ?? service,
    }),
  );
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

/** What the kernel holds, to be compared. */
export async function held(kernel: FakeKernel): Promise<string> {
  const { table } = await kernel.nft.readTable('inet', 'arctic');
  const links = (await kernel.rt.links()).map(({ name, up }) => [name, up]);
  const addresses = (await kernel.rt.addresses()).map(({ cidr }) => cidr);
  const rules = (await kernel.rt.rules()).map(({ priority, table: to, fwmark }) => [priority, to, fwmark]);
  const mark = await kernel.sysctl.read('net.ipv4.tcp_fwmark_accept');
  return JSON.stringify([table && canonicalTable(table), links, addresses.sort(), rules.sort(), mark]);
}
