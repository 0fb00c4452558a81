/**
 * What a host behind the entry loses when an agent is killed and started again at once: the longest gap in a stream of pings through the
 * tunnel of two real agents, and how much of it the process took from its start to its API. The bar is a second.
 *
 *   ARCTIC_LAB_RUNTIME=dist node --import=tsx ops/bench/tunnel-restart.ts [rounds, default 3]
 *
 * Needs root and ping.
 */
import { loadavg } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { createCluster, eventually, obtainToken } from '../../test/e2e/cluster.ts';
import { describeMachine } from './machine.ts';
import { spread } from './statistics.ts';

const ROUNDS = Number(process.argv[2] ?? 3);
const INTERVAL_MS = 5;
const SECONDS = 8;
const BAR_MS = 1_000;

/** The longest run of missing answers, ms. */
function longestGap(output: string): number {
  const answered = [...output.matchAll(/icmp_seq=(\d+) ttl/g)].map(([, seq]) => Number(seq));
  if (answered.length === 0) throw new Error(`no answer at all: ${output}`);
  const gaps = answered.map((seq, at) => seq - (answered[at - 1] ?? 0) - 1);
  return Math.max(...gaps, SECONDS * (1_000 / INTERVAL_MS) - (answered.at(-1) ?? 0)) * INTERVAL_MS;
}

const cluster = await createCluster();
try {
  const { lab } = cluster;
  const [entry, exit] = [cluster.member(0), cluster.member(1)];
  const server = lab.host('server').address.ipv4 ?? '';
  const post = async (path: string, body: unknown): Promise<{ id: string }> => {
    const answer = await entry.agent.request('POST', path, { token: entry.token, body });
    if (answer.status !== 201) throw new Error(`${path}: ${answer.status} ${answer.text}`);
    return answer.json<{ id: string }>();
  };
  const { id } = await post('/v1/services', { name: 'to-server', target_peer_id: exit.identity.peer_id });
  await post(`/v1/services/${id}/routes`, { routes: [{ priority: 100, dest_cidr: `${server}/32` }] });

  const agents = { entry: entry.agent, exit: exit.agent };
  /** The tunnel has carried something since it was asked last. */
  const carries = async (): Promise<void> => {
    const { client_id, client_secret } = entry.identity;
    const token = await obtainToken(agents.entry, client_id, client_secret);
    const bytes = async (): Promise<number> => {
      const answer = await agents.entry.request('GET', `/v1/services/${id}`, { token });
      return answer.json<{ tunnel: { bytes_received: number } | null }>().tunnel?.bytes_received ?? 0;
    };
    const before = await bytes();
    await eventually('the tunnel carries', async () => {
      await lab.exec('client', ['ping', '-n', '-c', '3', '-i', '0.01', '-W', '1', server], { check: false });
      return (await bytes()) > before + 3 * 84;
    });
  };

  console.log(`${describeMachine()}\nload average before: ${loadavg()[0]?.toFixed(1)}\n`);
  console.log(`| killed | longest gap, ms | of it start to API, ms | bar, ${BAR_MS} ms |\n|---|---|---|---|`);
  for (const host of ['exit', 'entry'] as const) {
    const gaps: number[] = [];
    const starts: number[] = [];
    for (let round = 0; round < ROUNDS; round += 1) {
      await carries();
      // What a session just made still needs is over by then.
      await sleep(3_000);
      const stream = lab.exec(
        'client',
        [
          'ping',
          '-n',
          '-i',
          String(INTERVAL_MS / 1_000),
          '-c',
          String((SECONDS * 1_000) / INTERVAL_MS),
          server,
        ],
        { check: false },
      );
      await sleep(1_000);
      agents[host].kill('SIGKILL');
      await agents[host].process.ended;
      const begun = performance.now();
      agents[host] = await lab.startAgent(host);
      starts.push(performance.now() - begun);
      gaps.push(longestGap((await stream).stdout));
    }
    const worst = Math.max(...gaps);
    console.log(
      `| ${host} | ${spread(gaps, 0)} | ${spread(starts, 0)} | ${worst <= BAR_MS ? 'met' : 'missed'} |`,
    );
  }
  console.log(`\n${ROUNDS} rounds each; load average ${loadavg()[0]?.toFixed(1)} at the end.`);
} finally {
  await cluster.lab.destroy();
}
