/** A host with nothing but a kernel, projections and the two reconcilers that write to it. */

import { systemClock } from '../../events/clock.ts';
import { createProjections } from '../../projections/runner.ts';
import type { Kernel, Nft } from '../../src/kernel/contract.ts';
import { createKernel } from '../../src/kernel/kernel.ts';
import type { createReconcilers } from '../../src/reconcilers/runner.ts';
import { makeNetns, type Netns } from '../../test/kernel/netns.ts';
import { History, peer } from '../../test/unit/projections/history.ts';
import { MemoryLog } from '../../test/unit/projections/memory-log.ts';
import { createKernelReconcilers } from '../../test/unit/reconcilers/kernel-reconcilers.ts';

/** Routes in ten classes by destination, /15 to /24: what `nft` 1.0.6 can parse as well (no masked concatenations). */
export const destination = (n: number): string => {
  const length = 24 - (n % 10);
  const network = (n - (n % 10)) / 10;
  // From 1.0.0.0 on in each class: 10,000 of /15 end below 127.0.0.0.
  const address = 2 ** 24 + network * 2 ** (32 - length);
  return `${address >>> 24}.${(address >>> 16) & 255}.${(address >>> 8) & 255}.${address & 255}/${length}`;
};

export interface Bench {
  readonly netns: Netns;
  readonly kernel: Kernel;
  readonly history: History;
  readonly service: string;
  readonly append: () => void;
  readonly reconcilers: ReturnType<typeof createReconcilers>;
  /** Resolves at the next acknowledged commit, with the milliseconds since its plan was handed over. */
  readonly committed: () => Promise<number>;
  addRoutes(from: number, count: number): void;
  stop(): Promise<void>;
}

export async function makeBench(owned: boolean, routes: number, withInterface = false): Promise<Bench> {
  const netns = await makeNetns('bench');
  await netns.exec('ip', 'link', 'add', 'lan0', 'type', 'veth', 'peer', 'name', 'lan1');
  await netns.exec('ip', 'link', 'set', 'lan0', 'up');
  const plain = createKernel({ netnsPath: netns.path });
  await plain.start();
  let waiting: ((took: number) => void)[] = [];
  const told = <K extends 'changeTable' | 'replaceTable'>(name: K): Nft[K] =>
    (async (...args: Parameters<Nft[K]>) => {
      const began = performance.now();
      const result = await (plain.nft[name] as (...all: Parameters<Nft[K]>) => ReturnType<Nft[K]>)(...args);
      const took = performance.now() - began;
      for (const resolve of waiting.splice(0)) resolve(took);
      return result;
    }) as Nft[K];
  const kernel: Kernel = {
    ...plain,
    nft: { ...plain.nft, changeTable: told('changeTable'), replaceTable: told('replaceTable') },
  };
  const log = new MemoryLog();
  const history = new History();
  const projections = createProjections(
    { localPeer: peer(1), snapshotEvery: 1e9 },
    { log, clock: systemClock },
  );
  projections.start();
  const reconcilers = createKernelReconcilers({ kernel, projections, owned });
  history.member(1);
  history.member(2);
  const service = history.service(
    peer(1),
    1,
    peer(1),
    peer(2),
    withInterface ? { requires_interface: true, desired_ipv4_cidr: '10.77.0.1/24' } : {},
  );
  const append = (): void => log.append(history.events.slice(log.events.length));
  const addRoutes = (from: number, count: number): void => {
    for (let n = from; n < from + count; n += 1)
      history.route(peer(1), n + 1, service, null, destination(n) as never);
  };
  addRoutes(0, routes);
  append();
  await reconcilers.start();
  await reconcilers.sync();
  return {
    netns,
    kernel,
    history,
    service,
    append,
    reconcilers,
    addRoutes,
    committed: () => new Promise((resolve) => waiting.push(resolve)),
    async stop() {
      waiting = [];
      await reconcilers.stop();
      projections.stop();
      await plain.stop();
      netns.remove();
    },
  };
}
