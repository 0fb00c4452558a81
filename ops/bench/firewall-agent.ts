import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { createKernel } from '../../src/kernel/kernel.ts';
import { createCluster } from '../../test/e2e/cluster.ts';
import { namespacePath } from '../lab/namespaces.ts';
import { destination } from './firewall-host.ts';
import { median, quantile, spread } from './statistics.ts';

// What is measured is what is installed.
process.env['ARCTIC_LAB_RUNTIME'] ??= 'dist';

/** Through a real agent: API, SQLite log, projections, kernel; the commit is seen by a reader of its own. */
export async function agentRows(): Promise<void> {
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
        `all ${spread(times)}; event loop of the agent kept at most ${(lag * 1000).toFixed(1)} ms (50 ms of it its meter's own)`,
    );
    const mib = async (name: string): Promise<number> => (await metric(name)) / 2 ** 20;
    const status = readFileSync(`/proc/${entry.agent.process.pid}/status`, 'utf8');
    const resident = (field: string): number =>
      Number(new RegExp(`^${field}:\\s+(\\d+) kB`, 'm').exec(status)?.[1]) / 1024;
    const heap = await mib('nodejs_heap_size_total_bytes');
    const external = await mib('nodejs_external_memory_bytes');
    const rest = resident('RssAnon') - heap - external;
    console.log(
      `agent with 100,000 routes, MiB: ${resident('VmRSS').toFixed(0)} RSS = ${resident('RssFile').toFixed(0)} programs and libraries (mapped files) + ` +
        `${heap.toFixed(0)} JavaScript heap (${(await mib('nodejs_heap_size_used_bytes')).toFixed(0)} in use) + ${external.toFixed(0)} buffers + ` +
        `${rest.toFixed(0)} the rest (SQLite, threads, engines, code); most ever ${resident('VmHWM').toFixed(0)}`,
    );
  } finally {
    await kernel.stop();
    await cluster.lab.destroy();
  }
}
