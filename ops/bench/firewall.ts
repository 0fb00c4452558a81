/**
 * The firewall reconciler on the real kernel in a namespace of its own, beside `nft` doing the same in the same run.
 * Medians; ratios are ours to the peer's. `--agent` measures a real agent with 100,000 routes through its API instead.
 *
 *   node --import=tsx ops/bench/firewall.ts [rounds] [--agent]
 */
import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { systemClock } from '../../events/clock.ts';
import { MARK } from '../../projections/desired/contract.ts';
import { createProjections } from '../../projections/runner.ts';
import type { Kernel, Nft } from '../../src/kernel/contract.ts';
import { createKernel } from '../../src/kernel/kernel.ts';
import { createFirewallReconciler } from '../../src/reconcilers/firewall.ts';
import { createNetworkReconciler } from '../../src/reconcilers/network.ts';
import { passable } from '../../src/reconcilers/pass.ts';
import { createReconcilers } from '../../src/reconcilers/runner.ts';
import { createCluster } from '../../test/e2e/cluster.ts';
import { makeNetns, type Netns } from '../../test/kernel/netns.ts';
import { History, peer } from '../../test/unit/projections/history.ts';
import { MemoryLog } from '../../test/unit/projections/memory-log.ts';
import { namespacePath } from '../lab/namespaces.ts';
import { describeMachine } from './machine.ts';
import { median, quantile, spread } from './statistics.ts';

const ROUNDS = Number(process.argv[2] ?? 7);
const run = promisify(execFile);
const MOST_OUTPUT = 256 * 1024 * 1024;

/** Routes in ten classes by destination, /15 to /24: what `nft` 1.0.6 can parse as well (no masked concatenations). */
const destination = (n: number): string => {
  const length = 24 - (n % 10);
  const network = (n - (n % 10)) / 10;
  // From 1.0.0.0 on in each class: 10,000 of /15 end below 127.0.0.0.
  const address = 2 ** 24 + network * 2 ** (32 - length);
  return `${address >>> 24}.${(address >>> 16) & 255}.${(address >>> 8) & 255}.${address & 255}/${length}`;
};

interface Bench {
  readonly netns: Netns;
  readonly kernel: Kernel;
  readonly history: History;
  readonly service: string;
  readonly append: () => void;
  readonly reconcilers: ReturnType<typeof createReconcilers>;
  /** Resolves at the next acknowledged commit. */
  readonly committed: () => Promise<void>;
  addRoutes(from: number, count: number): void;
  stop(): Promise<void>;
}

async function makeBench(owned: boolean, routes: number, withInterface = false): Promise<Bench> {
  const netns = await makeNetns('bench');
  await netns.exec('ip', 'link', 'add', 'lan0', 'type', 'veth', 'peer', 'name', 'lan1');
  await netns.exec('ip', 'link', 'set', 'lan0', 'up');
  const plain = createKernel({ netnsPath: netns.path });
  await plain.start();
  let waiting: (() => void)[] = [];
  const told = <K extends 'changeTable' | 'replaceTable'>(name: K): Nft[K] =>
    (async (...args: Parameters<Nft[K]>) => {
      const result = await (plain.nft[name] as (...all: Parameters<Nft[K]>) => ReturnType<Nft[K]>)(...args);
      for (const resolve of waiting.splice(0)) resolve();
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
  const silent = { debug: () => {}, info: () => {}, warn: () => {}, error: () => {} };
  const memory = new Map<string, string>();
  const reconcilers = createReconcilers(
    {},
    {
      clock: systemClock,
      random: { fraction: () => 0.5 },
      logger: { child: () => silent },
      caughtUp: () => true,
      bootstrapped: () => true,
      position: () => projections.position,
      record: () => undefined,
      onProjectionChanged: (listener) => {
        projections.bus.on('changed', listener);
        return () => projections.bus.off('changed', listener);
      },
      watchKernel: (listener) => kernel.watch(listener),
      reconcilers: [
        {
          passable: passable(
            createNetworkReconciler(
              { parentInterface: 'lan0' },
              { kernel, desired: () => projections.desired('interfaces') },
            ),
          ),
          digest: () => projections.desiredDigest('interfaces'),
          wakesOn: ['interfaces'],
          watches: ['link', 'address'],
        },
        {
          passable: passable(
            createFirewallReconciler(
              { listenPort: () => 17_000, firewallOwner: owned },
              {
                kernel,
                desired: () => projections.desired('firewall'),
                changes: (since) => projections.firewallChanges(since),
                serviceName: (id) => id,
                memory: { get: (key) => memory.get(key), set: (key, value) => void memory.set(key, value) },
              },
            ),
          ),
          digest: () => projections.desiredDigest('firewall'),
          wakesOn: ['firewall'],
          watches: ['nftables', 'rule', 'route'],
        },
      ],
    },
  );
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

async function timed(work: () => Promise<unknown>): Promise<number> {
  const began = performance.now();
  await work();
  return performance.now() - began;
}

const ratio = (ours: readonly number[], theirs: readonly number[]): string =>
  (median(ours) / median(theirs)).toFixed(4);

/** The longest gap of the event loop during `work`, ms. */
async function longestStall(work: () => Promise<unknown>): Promise<number> {
  const delay = monitorEventLoopDelay({ resolution: 1 });
  delay.enable();
  await sleep(20);
  delay.reset();
  await work();
  await sleep(20);
  delay.disable();
  return delay.max / 1e6;
}

/** The same maps and rules as a script for `nft -f`. */
function nftScript(routes: number): string {
  const lines = ['destroy table inet peer', 'table inet peer {'];
  const classes = new Map<number, string[]>();
  for (let n = 0; n < routes; n += 1) {
    const [address = '', length = ''] = destination(n).split('/');
    const elements = classes.get(Number(length)) ?? [];
    elements.push(`${address} : 0x${(MARK.service | 1).toString(16)}`);
    classes.set(Number(length), elements);
  }
  for (const [length, elements] of classes)
    lines.push(`map m4_d${length} { type ipv4_addr : mark`, `elements = { ${elements.join(', ')} }`, '}');
  lines.push('chain sel4 {');
  for (const length of [...classes.keys()].sort((a, b) => b - a)) {
    const mask = (0xffff_ffff << (32 - length)) >>> 0;
    const text = [24, 16, 8, 0].map((shift) => (mask >>> shift) & 255).join('.');
    lines.push(`meta mark set ip daddr and ${text} map @m4_d${length} return`);
  }
  lines.push(
    '}',
    'chain prerouting { type filter hook prerouting priority mangle; policy accept;',
    'meta nfproto ipv4 jump sel4',
    '}',
    '}',
  );
  // nft before 1.0.7 has no `destroy`.
  lines[0] = 'table inet peer {}\ndelete table inet peer';
  return `${lines.join('\n')}\n`;
}

async function replaceRows(directory: string): Promise<void> {
  for (const routes of [100, 1_000, 10_000, 100_000]) {
    const bench = await makeBench(false, routes);
    try {
      const script = join(directory, `${routes}.nft`);
      writeFileSync(script, nftScript(routes));
      const held = await bench.kernel.nft.readTable('inet', 'arctic');
      if (held.table === undefined) throw new Error('no table');
      const { table } = held;
      const ours: number[] = [];
      const theirs: number[] = [];
      const rounds = routes === 100_000 ? Math.min(3, ROUNDS) : ROUNDS;
      let stall = 0;
      for (let round = 0; round < rounds; round += 1) {
        stall = Math.max(
          stall,
          await longestStall(async () => {
            ours.push(await timed(() => bench.kernel.nft.replaceTable(table)));
          }),
        );
        theirs.push(await timed(() => run('nsenter', [`--net=${bench.netns.path}`, 'nft', '-f', script])));
      }
      console.log(
        `replace ${routes} routes, ms: ${spread(ours)}; nft -f ${spread(theirs)}; ratio ${ratio(ours, theirs)}; ` +
          `event loop kept at most ${stall.toFixed(1)}`,
      );
    } finally {
      await bench.stop();
    }
  }
}

async function incrementalRows(owned: boolean): Promise<void> {
  const routes = 100_000;
  const bench = await makeBench(owned, routes);
  try {
    const adds: number[] = [];
    const removes: number[] = [];
    const changes = 40;
    const stall = await longestStall(async () => {
      for (let n = 0; n < changes; n += 1) {
        for (const [into, make] of [
          [adds, () => bench.addRoutes(routes + n, 1)],
          [
            removes,
            () =>
              bench.history.add(peer(1), 'route.deleted', bench.history.events.at(-1)?.entity ?? '', {
                service_id: bench.service,
              }),
          ],
        ] as const) {
          make();
          const commit = bench.committed();
          into.push(
            await timed(async () => {
              bench.append();
              await commit;
            }),
          );
          await sleep(5);
        }
      }
    });
    const label = owned ? 'owner flag' : 'no owner flag';
    console.log(
      `one route at 100,000 (${label}), append to acknowledged commit, ms: add ${spread(adds, 2)}, delete ${spread(removes, 2)}; ` +
        `event loop kept at most ${stall.toFixed(1)}`,
    );
    if (owned) return;
    const theirs: number[] = [];
    for (let n = 0; n < 15; n += 1) {
      const element = `{ 240.0.${n}.0 : 0x41000001 }`;
      theirs.push(
        await timed(() =>
          run('nsenter', [
            `--net=${bench.netns.path}`,
            'nft',
            'add',
            'element',
            'inet',
            'arctic',
            'm4_d24',
            element,
          ]),
        ),
      );
    }
    console.log(`nft add element at 100,000, ms: ${spread(theirs)}; ratio ${ratio(adds, theirs)}`);
    await bench.reconcilers.sync();
    const reads: number[] = [];
    const lists: number[] = [];
    let readStall = 0;
    for (let round = 0; round < Math.min(5, ROUNDS); round += 1) {
      readStall = Math.max(
        readStall,
        await longestStall(async () => {
          reads.push(await timed(() => bench.reconcilers.sync()));
        }),
      );
      lists.push(
        await timed(() =>
          run('nsenter', [`--net=${bench.netns.path}`, 'nft', '-j', 'list', 'table', 'inet', 'arctic'], {
            maxBuffer: MOST_OUTPUT,
          }),
        ),
      );
    }
    console.log(
      `read back and compare 100,000 (a full pass), ms: ${spread(reads)}; nft -j list table ${spread(lists)}; ratio ${ratio(reads, lists)}; ` +
        `event loop kept at most ${readStall.toFixed(1)}`,
    );
    const { rss, heapUsed, external } = process.memoryUsage();
    const mib = (bytes: number): string => (bytes / 2 ** 20).toFixed(0);
    console.log(
      `this process with 100,000 routes (events in memory too): ${mib(rss)} MiB RSS, ${mib(heapUsed)} heap, ${mib(external)} external`,
    );
  } finally {
    await bench.stop();
  }
}

async function repairRows(): Promise<void> {
  let bench: Bench;
  const name = 'svc_00000000000';
  const nft = (...args: string[]) => run('nsenter', [`--net=${bench.netns.path}`, 'nft', ...args]);
  const ip = (...args: string[]) => run('ip', ['-n', bench.netns.name, ...args]);
  const works: readonly (readonly [string, () => Promise<unknown>])[] = [
    [
      'delete element',
      () => nft('delete', 'element', 'inet', 'arctic', 'm4_d24', `{ ${destination(0).split('/')[0]} }`),
    ],
    ['add element', () => nft('add', 'element', 'inet', 'arctic', 'm4_d24', '{ 240.1.0.0 : 0x5 }')],
    ['insert rule', () => nft('insert', 'rule', 'inet', 'arctic', 'prerouting', 'accept')],
    ['flush chain', () => nft('flush', 'chain', 'inet', 'arctic', 'apply')],
    ['delete table', () => nft('delete', 'table', 'inet', 'arctic')],
    ['flush ruleset', () => nft('flush', 'ruleset')],
    ['delete link', () => ip('link', 'delete', name)],
    ['delete address', () => ip('address', 'delete', '10.77.0.1/24', 'dev', name)],
    ['delete ip rule', () => ip('rule', 'delete', 'priority', '4100')],
    ['delete local route', () => ip('route', 'flush', 'table', '4100')],
  ];
  for (const [what, change] of works) {
    // A host of its own: more than five repairs of one thing in a minute would count as a fight.
    bench = await makeBench(false, 1_000, true);
    try {
      const times: number[] = [];
      for (let round = 0; round < 5; round += 1) {
        await change();
        const began = performance.now();
        for (;;) {
          const left = (await bench.reconcilers.drift()).flatMap((report) => report.differences);
          if (left.length === 0) break;
          if (performance.now() - began > 5_000) throw new Error(`${what}: not repaired`);
          await sleep(1);
        }
        times.push(performance.now() - began);
        await sleep(30);
      }
      console.log(`repair after ${what}, ms: ${spread(times)}`);
    } finally {
      await bench.stop();
    }
  }
}

/** Through a real agent: API, SQLite log, projections, kernel; the commit is seen by a reader of its own. */
async function agentRows(): Promise<void> {
  const cluster = await createCluster({ agents: ['entry', 'exit'] });
  const entry = cluster.member(0);
  const kernel = createKernel({ netnsPath: namespacePath(cluster.lab.host('entry').namespace) });
  await kernel.start();
  try {
    const created = await entry.agent.request('POST', '/v1/services', {
      token: entry.token,
      body: { name: 'bench', target_peer_id: cluster.member(1).identity.peer_id },
    });
    const { id } = created.json<{ id: string }>();
    const add = async (from: number, count: number): Promise<void> => {
      const routes = Array.from({ length: count }, (_, at) => ({
        priority: 100,
        dest_cidr: destination(from + at),
      }));
      const answer = await entry.agent.request('POST', `/v1/services/${id}/routes`, {
        token: entry.token,
        body: { routes },
      });
      if (answer.status !== 201) throw new Error(`${answer.status} ${answer.text}`);
    };
    for (let from = 0; from < 100_000; from += 5_000) await add(from, 5_000);
    await sleep(5_000);
    // The other host's agent would work on the same processors.
    await cluster.member(1).agent.stop();
    await sleep(2_000);
    let committed = (): void => undefined;
    kernel.watch((notice) => {
      if (notice.subsystem === 'nftables') committed();
    });
    const metric = async (name: string): Promise<number> => {
      const { text } = await entry.agent.request('GET', '/metrics', { token: entry.token });
      return Number(new RegExp(`^${name} (\\S+)$`, 'm').exec(text)?.[1]);
    };
    await metric('nodejs_eventloop_lag_max_seconds');
    const times: number[] = [];
    for (let n = 0; n < 40; n += 1) {
      const commit = new Promise<void>((resolve, reject) => {
        const late = setTimeout(() => reject(new Error('no commit in 10 s')), 10_000);
        committed = () => {
          clearTimeout(late);
          resolve();
        };
      });
      const began = performance.now();
      const [, at] = await Promise.all([add(100_000 + n, 1), commit.then(() => performance.now())]);
      times.push(at - began);
      await sleep(25);
    }
    const lag = await metric('nodejs_eventloop_lag_max_seconds');
    console.log(
      `API call to committed rule at 100,000 routes, ms: median ${median(times).toFixed(1)}, p95 ${quantile(times, 0.95).toFixed(1)}, ` +
        `all ${spread(times)}; event loop of the agent kept at most ${(lag * 1000).toFixed(1)} ms (10 ms of it its meter's own)`,
    );
    const rss = (await metric('process_resident_memory_bytes')) / 2 ** 20;
    const heap = (await metric('nodejs_heap_size_used_bytes')) / 2 ** 20;
    const external = (await metric('nodejs_external_memory_bytes')) / 2 ** 20;
    console.log(
      `agent with 100,000 routes: ${rss.toFixed(0)} MiB RSS, ${heap.toFixed(0)} heap in use, ${external.toFixed(0)} external`,
    );
  } finally {
    await kernel.stop();
    await cluster.lab.destroy();
  }
}

console.log(describeMachine());
if (process.argv.includes('--agent')) await agentRows();
else {
  const directory = mkdtempSync(join(tmpdir(), 'arctic-bench-'));
  try {
    if (!process.argv.includes('--repairs')) {
      await replaceRows(directory);
      await incrementalRows(true);
      await incrementalRows(false);
    }
    await repairRows();
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}
