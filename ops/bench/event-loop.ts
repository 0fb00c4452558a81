/**
 * Event-loop delay of the agents at full load of the TCP engine, beside that of an idle Node process on the same machine
 * under the same load: the relay has a thread of its own, so the agents' loops should not notice.
 *
 *   node --import=tsx ops/bench/event-loop.ts [rounds, default 3]
 *
 * Needs root. Both sides are perf_hooks.monitorEventLoopDelay with a resolution of 10 ms, 99th percentile.
 */
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { loadavg } from 'node:os';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { fileURLToPath } from 'node:url';
import { describeMachine } from './machine.ts';
import { median } from './statistics.ts';
import { createTcpLab } from './tcp-lab.ts';

const RESOLUTION = 10;
const SECONDS = 5;
const FLOWS = 16;
const BAR = 1.5;

async function beIdle(): Promise<void> {
  const delay = monitorEventLoopDelay({ resolution: RESOLUTION });
  delay.enable();
  process.on('disconnect', () => process.exit());
  for (;;) {
    await once(process, 'message');
    process.send?.(delay.percentile(99) / 1e6);
    delay.reset();
  }
}

async function compare(rounds: number): Promise<void> {
  const idle = fork(fileURLToPath(import.meta.url), ['idle'], { execArgv: process.execArgv });
  const idleDelay = async (): Promise<number> => {
    idle.send('ask');
    const [delay] = (await once(idle, 'message')) as [number];
    return delay;
  };
  const lab = await createTcpLab([]);
  try {
    const arctic = lab.contenders.find(({ name }) => name === 'arctic');
    if (arctic === undefined) throw new Error('the lab has no service');
    console.log(
      `${describeMachine()}\n\n| round | Mbit/s | idle Node, ms | entry, ms | exit, ms |\n|---|---|---|---|---|`,
    );
    const ratios: number[] = [];
    for (let round = 1; round <= rounds; round += 1) {
      await Promise.all([idleDelay(), lab.eventLoopDelay('entry'), lab.eventLoopDelay('exit')]);
      const { mbit } = await lab.load(arctic, 'down', FLOWS, SECONDS);
      const beside = await idleDelay();
      const [entry, exit] = [await lab.eventLoopDelay('entry'), await lab.eventLoopDelay('exit')];
      ratios.push(Math.max(entry, exit) / beside);
      const row = [round, mbit.toFixed(0), ...[beside, entry, exit].map((one) => one.toFixed(2))];
      console.log(`| ${row.join(' | ')} |`);
    }
    const ratio = median(ratios);
    console.log(
      `\nworse agent to idle process, median: ${ratio.toFixed(2)}, bar ${BAR} ${ratio <= BAR ? 'met' : 'missed'}; ` +
        `load average ${loadavg()[0]?.toFixed(1)}`,
    );
  } finally {
    await lab.destroy();
    idle.disconnect();
  }
}

if (process.argv[2] === 'idle') await beIdle();
else await compare(Number(process.argv[2] ?? 3));
