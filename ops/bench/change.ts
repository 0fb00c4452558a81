/**
 * From the API's answer to the rule in the kernel, with 0 and with 1,000 routes present, through a real agent in a
 * namespace. The commit is seen by a second reader of the kernel's own notifications, not by the agent's word.
 *
 *   node --import=tsx ops/bench/change.ts [changes]
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { createKernel } from '../../src/kernel/kernel.ts';
import { createCluster } from '../../test/e2e/cluster.ts';
import { namespacePath } from '../lab/namespaces.ts';
import { describeMachine } from './machine.ts';
import { median, quantile, spread } from './statistics.ts';

const CHANGES = Number(process.argv[2] ?? 40);
const QUIET_MS = 150;

const cluster = await createCluster();
const entry = cluster.member(0);
const kernel = createKernel({ netnsPath: namespacePath(cluster.lab.host('entry').namespace) });
await kernel.start();
try {
  console.log(describeMachine());
  const created = await entry.agent.request('POST', '/v1/services', {
    token: entry.token,
    body: { name: 'bench', target_peer_id: cluster.member(1).identity.peer_id },
  });
  const { id } = created.json<{ id: string }>();

  let committed: (() => void) | undefined;
  let lastCommit = performance.now();
  kernel.watch((notice) => {
    if (notice.subsystem !== 'nftables') return;
    lastCommit = performance.now();
    committed?.();
  });

  /** A change is two commits, of the firewall and then of the tunnel's table: the next must not meet the last one's second. */
  const settled = async (): Promise<void> => {
    while (performance.now() - lastCommit < QUIET_MS) await sleep(20);
  };

  interface Times {
    /** Milliseconds since the request left. */
    readonly answered: number;
    readonly committed: number;
  }

  async function addRoutes(routes: readonly { priority: number; dest_cidr: string }[]): Promise<Times> {
    await settled();
    const commit = new Promise<number>((resolve, reject) => {
      const late = setTimeout(() => reject(new Error('no commit in 10 s')), 10_000);
      committed = () => {
        clearTimeout(late);
        resolve(performance.now());
      };
    });
    const sent = performance.now();
    const answer = await entry.agent.request('POST', `/v1/services/${id}/routes`, {
      token: entry.token,
      body: { routes },
    });
    const answered = performance.now() - sent;
    if (answer.status !== 201) throw new Error(`${answer.status} ${answer.text}`);
    const at = (await commit) - sent;
    committed = undefined;
    return { answered, committed: at };
  }

  const measure = async (label: string, second: number): Promise<void> => {
    const times: Times[] = [];
    for (let index = 0; index < CHANGES; index += 1) {
      times.push(await addRoutes([{ priority: 100, dest_cidr: `10.${second}.${index}.0/24` }]));
    }
    // A rule that was committed before the answer arrived counts as 0.
    const after = times.map((one) => Math.max(0, one.committed - one.answered));
    console.log(
      `${label}: ms from request to answer ${spread(times.map((one) => one.answered))}, ` +
        `to committed rule ${spread(times.map((one) => one.committed))}; ` +
        `from answer to rule: median ${median(after).toFixed(1)}, p95 ${quantile(after, 0.95).toFixed(1)} (${CHANGES} changes)`,
    );
  };

  await measure('few routes   ', 100);
  await addRoutes(
    Array.from({ length: 1_000 }, (_, index) => ({
      priority: 50,
      dest_cidr: `10.${120 + (index >> 8)}.${index & 255}.0/24`,
    })),
  );
  await measure('1,000 routes ', 101);
  const { stdout } = await cluster.lab.exec('entry', ['nft', 'list', 'table', 'inet', 'arctic']);
  const held = stdout.match(/10\.\d+\.\d+\.0 : /g)?.length ?? 0;
  const wanted = 2 * CHANGES + 1_000;
  if (held !== wanted) throw new Error(`nft shows ${held} routes, not ${wanted}`);
  console.log(`nft shows all ${held} routes`);
} finally {
  await kernel.stop();
  await cluster.lab.destroy();
}
