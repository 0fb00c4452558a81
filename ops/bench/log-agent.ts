/**
 * A whole agent on a long log: its start to /livez and /readyz, and appends through its API in turn with those of an agent
 * whose log is short. Two clusters of namespaces, the built program, real HTTP.
 *
 *   node --import=tsx ops/bench/log-agent.ts [--events 1000000] [--rounds 5]
 */
import { loadavg } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { systemClock, systemRandom } from '../../events/clock.ts';
import { openLog } from '../../events/log.ts';
import { readPeerKey } from '../../src/identity/peer-key.ts';
import {
  createCluster,
  eventually,
  type Member,
  obtainToken,
  type TestCluster,
} from '../../test/e2e/cluster.ts';
import type { LabAgent } from '../lab/lab.ts';
import { describeMachine } from './machine.ts';
import { spread } from './statistics.ts';

// What is measured is what is installed.
process.env['ARCTIC_LAB_RUNTIME'] ??= 'dist';

const { values: given } = parseArgs({
  options: {
    events: { type: 'string', default: '1000000' },
    rounds: { type: 'string', default: '5' },
  },
});
const EVENTS = Number(given.events);
const ROUNDS = Number(given.rounds);
const ROUTES = 100;
const REQUESTS = 100;
/** Requests to one agent before it is the other's turn. */
const BLOCK = 20;
const A_TRANSACTION = 1_000;
const START_LIMIT_MS = 120_000;
const BAR_START_S = 2;
const BAR_APPEND = 0.9;

interface Subject {
  readonly cluster: TestCluster;
  readonly member: Member;
  readonly service: string;
  readonly routes: readonly number[];
  agent: LabAgent;
  token: string;
}

/** One agent with a service and some routes. The peer the service leads to is stopped, so that it takes nothing from this one. */
async function prepare(): Promise<Subject> {
  const cluster = await createCluster({ agents: ['entry', 'exit'] });
  const member = cluster.member(0);
  const target = cluster.member(1);
  const { agent, token } = member;
  const created = await agent.request('POST', '/v1/services', {
    token,
    body: { name: 'bench', target_peer_id: target.identity.peer_id },
  });
  const service = created.json<{ id: string }>().id;
  const body = {
    routes: Array.from({ length: ROUTES }, (_, n) => ({ priority: 100, dest_cidr: `10.1.${n}.0/24` })),
  };
  const added = await agent.request('POST', `/v1/services/${service}/routes`, { token, body });
  if (added.status !== 201) throw new Error(`${added.status} ${added.text}`);
  await target.agent.stop();
  const listed = await agent.request('GET', `/v1/services/${service}/routes?limit=${ROUTES}`, { token });
  const routes = listed.json<{ routes: { id: number }[] }>().routes.map(({ id }) => id);
  return { cluster, member, service, routes, agent, token };
}

/** Appends to the log of an agent that is stopped, with its own key, until it has as many events. */
function fill({ agent, service }: Subject): void {
  const signer = readPeerKey(join(agent.dataDir, 'peer.key'));
  if (signer === undefined) throw new Error('the agent has no key');
  const log = openLog(
    { path: join(agent.dataDir, 'arctic.db') },
    {
      signer,
      clock: systemClock,
      random: systemRandom,
      onError: (error) => {
        throw error;
      },
    },
  );
  const context = { actor: { kind: 'system', id: null, address: null }, correlationId: 'bench' } as const;
  const entities = log.read({ types: ['route.added'] }).map(({ entity }) => entity);
  try {
    while (log.head < EVENTS) {
      const from = log.head;
      log.append(
        Array.from({ length: Math.min(A_TRANSACTION, EVENTS - from) }, (_, i) => ({
          type: 'route.updated' as const,
          entity: entities[(from + i) % entities.length] ?? '',
          data: { service_id: service as never, priority: (from + i) % 60_000 },
        })),
        context,
      );
    }
  } finally {
    log.close();
  }
}

/** Starts the agent again; seconds from the start of its process until each answers 200. */
async function start(subject: Subject): Promise<{ readonly livez: number; readonly readyz: number }> {
  const began = performance.now();
  subject.agent = await subject.cluster.lab.startAgent('entry', { wait: false });
  const answers = async (path: string): Promise<number> => {
    await eventually(
      path,
      async () => (await subject.agent.request('GET', path)).status === 200,
      START_LIMIT_MS,
    );
    return (performance.now() - began) / 1_000;
  };
  const livez = await answers('/livez');
  return { livez, readyz: await answers('/readyz') };
}

async function change({ agent, token, service, routes }: Subject, n: number): Promise<void> {
  const id = routes[n % routes.length];
  const answer = await agent.request('PUT', `/v1/services/${service}/routes/${id}`, {
    token,
    body: { priority: 1 + ((n * 7) % 60_000) },
  });
  if (answer.status !== 200) throw new Error(`${answer.status} ${answer.text}`);
}

const print = (label: string, text: string): void => console.log(`${label.padEnd(44)} ${text}`);
const load = (): string =>
  loadavg()
    .map((one) => one.toFixed(1))
    .join(' ');

const subjects: Subject[] = [];
try {
  console.log(describeMachine());
  const long = await prepare();
  subjects.push(long);
  await long.agent.stop();
  fill(long);
  print('start, no snapshot of these events', `${(await start(long)).readyz.toFixed(2)} s to /readyz`);
  await long.agent.stop();

  console.log(`load ${load()}`);
  const livez: number[] = [];
  const readyz: number[] = [];
  for (let round = 0; round < ROUNDS; round += 1) {
    const took = await start(long);
    livez.push(took.livez);
    readyz.push(took.readyz);
    if (round < ROUNDS - 1) await long.agent.stop();
  }
  print(`start with ${EVENTS} events, to /livez`, `${spread(livez, 2)} s`);
  print(`start with ${EVENTS} events, to /readyz`, `${spread(readyz, 2)} s   (bar ${BAR_START_S})`);
  long.token = await obtainToken(
    long.agent,
    long.member.identity.client_id,
    long.member.identity.client_secret,
  );

  const short = await prepare();
  subjects.push(short);
  await sleep(2_000);
  console.log(`load ${load()}`);
  const rates = { long: [] as number[], short: [] as number[] };
  // The first round warms up.
  for (let round = -1; round < ROUNDS; round += 1) {
    const seconds = { long: 0, short: 0 };
    for (let from = 0; from < REQUESTS; from += BLOCK)
      for (const [name, subject] of [
        ['long', long],
        ['short', short],
      ] as const) {
        const began = performance.now();
        for (let n = from; n < from + BLOCK; n += 1) await change(subject, round * REQUESTS + REQUESTS + n);
        seconds[name] += (performance.now() - began) / 1_000;
      }
    if (round < 0) continue;
    rates.long.push(REQUESTS / seconds.long);
    rates.short.push(REQUESTS / seconds.short);
  }
  print(`append through the API, ${EVENTS} in the log`, `${spread(rates.long, 0)}/s`);
  print('append through the API, a short log', `${spread(rates.short, 0)}/s`);
  const ratios = rates.long.map((one, i) => one / (rates.short[i] ?? Number.NaN));
  print('  long : short', `${spread(ratios, 2)}   (bar ${BAR_APPEND})`);
} finally {
  for (const { cluster } of subjects) await cluster.lab.destroy();
}
