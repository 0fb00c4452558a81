/**
 * What an agent costs at rest: CPU and memory of joined agents over a minute, and the time of a start.
 *
 *   node --import=tsx ops/bench/idle.ts [seconds] [agents]
 */
import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { createCluster } from '../../test/e2e/cluster.ts';
import { describeMachine } from './machine.ts';

const SECONDS = Number(process.argv[2] ?? 60);
const AGENTS = Number(process.argv[3] ?? 2);
/** USER_HZ; 100 on every Linux this runs on (proc(5)). */
const TICKS = 100;

process.env['ARCTIC_LAB_RUNTIME'] ??= 'dist';

function cpuSeconds(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]?.split(' ') ?? [];
  return (Number(fields[11]) + Number(fields[12])) / TICKS;
}

const residentMiB = (pid: number): number =>
  Number(/^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]) / 1024;

const cluster = await createCluster({
  agents: ['entry', 'exit', ...Array.from({ length: AGENTS - 2 }, (_, index) => `host${index}`)],
});
try {
  console.log(describeMachine());
  await sleep(5_000);
  const agents = cluster.members.map(({ agent }) => agent);
  const before = agents.map(({ process }) => cpuSeconds(process.pid));
  await sleep(SECONDS * 1_000);
  agents.forEach(({ process, host }, index) => {
    const used = cpuSeconds(process.pid) - (before[index] ?? 0);
    console.log(
      `${host.name}: ${((100 * used) / SECONDS).toFixed(2)} % of a core at rest, ${residentMiB(process.pid).toFixed(0)} MiB resident`,
    );
  });
  const [first] = agents;
  if (first !== undefined) {
    await first.stop();
    const begun = performance.now();
    await cluster.lab.startAgent('entry');
    console.log(`start to /livez: ${(performance.now() - begun).toFixed(0)} ms`);
  }
} finally {
  await cluster.lab.destroy();
}
