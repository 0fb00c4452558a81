/**
 * The firewall reconciler on the real kernel in a namespace of its own, beside `nft` doing the same in the same run.
 * Medians; ratios are ours to the peer's. One part alone: `--tables` (replace), `--change` (one route, and read back), `--repairs` (what
 * others change), `--packets` (lookup and swap), `--agent` (a real agent with 100,000 routes through its API).
 *
 *   node --import=tsx ops/bench/firewall.ts [rounds] [--tables|--change|--repairs|--packets|--agent]
 */
import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { peer } from '../../test/unit/projections/history.ts';
import { agentRows } from './firewall-agent.ts';
import { type Bench, destination, makeBench } from './firewall-host.ts';
import { lookupRows, swapRow } from './firewall-packets.ts';
import { describeMachine } from './machine.ts';
import { median, spread } from './statistics.ts';

const ROUNDS = Number(process.argv[2] ?? 7);
const run = promisify(execFile);
const MOST_OUTPUT = 256 * 1024 * 1024;

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

/** Our table under another name as a script for `nft -f`: what 1.0.6 lists but cannot read is put in words it knows. */
async function nftScript({ netns }: Bench): Promise<string> {
  const text = await run('nsenter', [`--net=${netns.path}`, 'nft', 'list', 'table', 'inet', 'arctic'], {
    maxBuffer: MOST_OUTPUT,
  });
  const octets = (mask: string): string =>
    [24, 16, 8, 0].map((shift) => (Number(mask) >>> shift) & 255).join('.');
  return `table inet peer {}\ndelete table inet peer\n${text.stdout
    .replace('table inet arctic {', 'table inet peer {')
    .replace(/@nh,128,32 & (0x[0-9a-f]{8}) map/g, (_, mask: string) => `ip daddr and ${octets(mask)} map`)
    .replace(/((?:meta|ct) mark) (0x[0-9a-f]+)\/12/g, '$1 and 0xfff00000 == $2')}`;
}

/** Replacements before the first that counts: an agent in service has had this code compiled long ago. */
const WARM_UP = 10;

async function replaceRows(directory: string): Promise<void> {
  for (const routes of [100, 1_000, 10_000, 100_000]) {
    const bench = await makeBench(false, routes);
    try {
      const script = join(directory, `${routes}.nft`);
      writeFileSync(script, await nftScript(bench));
      const held = await bench.kernel.nft.readTable('inet', 'arctic');
      if (held.table === undefined) throw new Error('no table');
      const { table } = held;
      const ours: number[] = [];
      const theirs: number[] = [];
      const rounds = routes === 100_000 ? Math.min(3, ROUNDS) : ROUNDS;
      let stall = 0;
      for (let round = 0; routes <= 10_000 && round < WARM_UP; round += 1)
        await bench.kernel.nft.replaceTable(table);
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

/** Changes in a row, where the code is in the processor's caches, and the pause before one that comes alone, ms. */
const IN_A_ROW = 200;
const PAUSE_MS = 5;

/** One route at 100,000: the whole way from the append, and of it what `nft add element` does too. */
async function changeRows(owned: boolean): Promise<void> {
  const routes = 100_000;
  const bench = await makeBench(owned, routes);
  try {
    const whole: Record<'add' | 'delete', number[]> = { add: [], delete: [] };
    const kernel: Record<'add' | 'delete', number[]> = { add: [], delete: [] };
    const works = {
      add: (n: number) => bench.addRoutes(routes + n, 1),
      delete: () =>
        bench.history.add(peer(1), 'route.deleted', bench.history.events.at(-1)?.entity ?? '', {
          service_id: bench.service,
        }),
    };
    const stall = await longestStall(async () => {
      for (let n = 0; n < 40; n += 1) {
        for (const what of ['add', 'delete'] as const) {
          works[what](n);
          const commit = bench.committed();
          const began = performance.now();
          bench.append();
          const took = await commit;
          whole[what].push(performance.now() - began);
          kernel[what].push(took);
          await sleep(PAUSE_MS);
        }
      }
    });
    const label = `one route at 100,000 (${owned ? 'owner flag' : 'no owner flag'})`;
    console.log(
      `${label}, append to acknowledged commit, ms: add ${spread(whole.add, 2)}, delete ${spread(whole.delete, 2)}; ` +
        `event loop kept at most ${stall.toFixed(1)}`,
    );
    console.log(
      `${label}, planned to acknowledged in the kernel (encode, transaction, ack), each after a pause, ms: ` +
        `add ${spread(kernel.add, 3)}, delete ${spread(kernel.delete, 3)}`,
    );
    if (owned) return;
    await bareRows(bench, label, kernel.add);
    await bench.reconcilers.sync();
    await readRows(bench);
  } finally {
    await bench.stop();
  }
}

/** The same transaction with nothing around it, one after the other, and what `nft` takes for it. */
async function bareRows(bench: Bench, label: string, alone: readonly number[]): Promise<void> {
  const { nft } = bench.kernel;
  const set = { name: 'm4_d24', keyTypes: ['ipv4_addr'], dataType: 'mark', elements: [] } as const;
  const table = { family: 'inet', name: 'arctic', sets: [set] } as const;
  const adds: number[] = [];
  const deletes: number[] = [];
  for (let n = 0; n < IN_A_ROW; n += 1) {
    const elements = [{ key: (0xf000_0000 + n * 256).toString(16), data: '01000041' }];
    for (const [into, kind] of [
      [adds, 'add-elements'],
      [deletes, 'delete-elements'],
    ] as const)
      into.push(await timed(() => nft.changeTable(table, [{ kind, set: set.name, elements }])));
  }
  console.log(`${label}, the same in a row, ms: add ${spread(adds, 3)}, delete ${spread(deletes, 3)}`);
  const theirs: Record<'add' | 'delete', number[]> = { add: [], delete: [] };
  for (let n = 0; n < 15; n += 1)
    for (const what of ['add', 'delete'] as const) {
      const element = `{ 240.0.${n}.0${what === 'add' ? ' : 0x41000001' : ''} }`;
      const command = [
        `--net=${bench.netns.path}`,
        'nft',
        what,
        'element',
        'inet',
        'arctic',
        set.name,
        element,
      ];
      theirs[what].push(await timed(() => run('nsenter', command)));
    }
  console.log(
    `nft add element at 100,000, ms: ${spread(theirs.add)}; delete element ${spread(theirs.delete)}; ` +
      `ratio of add after a pause ${ratio(alone, theirs.add)}, in a row ${ratio(adds, theirs.add)}; ` +
      `of delete in a row ${ratio(deletes, theirs.delete)}`,
  );
}

async function readRows(bench: Bench): Promise<void> {
  const reads: number[] = [];
  const lists: number[] = [];
  let stall = 0;
  for (let round = 0; round < Math.min(5, ROUNDS); round += 1) {
    stall = Math.max(
      stall,
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
      `event loop kept at most ${stall.toFixed(1)}`,
  );
  const { rss, heapUsed, external } = process.memoryUsage();
  const mib = (bytes: number): string => (bytes / 2 ** 20).toFixed(0);
  console.log(
    `this process with 100,000 routes (events in memory too): ${mib(rss)} MiB RSS, ${mib(heapUsed)} heap, ${mib(external)} external`,
  );
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

const PARTS = {
  async tables() {
    const directory = mkdtempSync(join(tmpdir(), 'arctic-bench-'));
    try {
      await replaceRows(directory);
    } finally {
      rmSync(directory, { recursive: true, force: true });
    }
  },
  async change() {
    await changeRows(true);
    await changeRows(false);
  },
  repairs: repairRows,
  async packets() {
    await lookupRows(ROUNDS);
    await swapRow();
  },
  agent: agentRows,
};

console.log(describeMachine());
const chosen = Object.entries(PARTS).filter(([name]) => process.argv.includes(`--${name}`));
for (const [, part] of chosen.length > 0 ? chosen : Object.entries(PARTS)) await part();
