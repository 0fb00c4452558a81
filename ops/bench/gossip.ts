/**
 * How fast a change reaches everybody, with real agents in network namespaces.
 *
 *   node --import=tsx ops/bench/gossip.ts spread [nodes] [changes]   one change to all of 10 nodes, beside Debian's serf, interleaved
 *   node --import=tsx ops/bench/gossip.ts writes [agents] [writes]   200 writes spread over 30 agents, until all have all
 *
 * As root; `spread` needs `serf`. Both systems are asked and followed through the same kind of relay by one process, whose clock
 * is the only one. A change counts as arrived when the node itself tells a reader of it: Arctic in its event stream, after the
 * event is verified, stored and folded; serf in its RPC stream.
 */
import { loadavg } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { request } from 'undici';
import { createCluster, eventually, type Member, type TestCluster } from '../../test/e2e/cluster.ts';
import { describeMachine } from './machine.ts';
import { type SerfNode, startSerf } from './serf.ts';
import { median, quantile, spread } from './statistics.ts';

process.env['ARCTIC_LAB_RUNTIME'] ??= 'dist';

const [mode = 'spread', ...numbers] = process.argv.slice(2);
/** Pause between two changes: neither system has work left over from the last one. */
const QUIET_MS = 400;
const LIMIT_MS = 60_000;

const load = (): string => `load average ${(loadavg()[0] ?? 0).toFixed(1)}`;

/** Follows the services that an agent comes to hold, by name, from now on. */
async function follow(member: Member, heard: (name: string) => void): Promise<() => void> {
  const client = await member.agent.client();
  const { body } = await request(new URL('/v1/events?type=service.created', member.agent.url), {
    dispatcher: client.dispatcher,
    method: 'GET',
    headers: { accept: 'text/event-stream', authorization: `Bearer ${member.token}` },
    bodyTimeout: 0,
  });
  let rest = '';
  body.setEncoding('utf8');
  body.on('error', () => {});
  body.on('data', (text: string) => {
    rest += text;
    const end = rest.lastIndexOf('\n\n');
    if (end < 0) return;
    for (const [, name] of rest.slice(0, end).matchAll(/"name":"(bench-[^"]+)"/g)) heard(name ?? '');
    rest = rest.slice(end);
  });
  return () => body.destroy();
}

async function write(by: Member, to: Member, name: string): Promise<void> {
  const answer = await by.agent.request('POST', '/v1/services', {
    token: by.token,
    body: { name, target_peer_id: to.identity.peer_id },
  });
  if (answer.status !== 201) throw new Error(`${answer.status} ${answer.text}`);
}

/** Everybody knows everybody: otherwise a mesh that is still being made would be measured. */
async function settled(cluster: TestCluster): Promise<void> {
  const { members } = cluster;
  await eventually(
    'a full mesh',
    async () => {
      for (const { agent, token } of members) {
        const { peers } = (await agent.request('GET', '/v1/peers?limit=500', { token })).json<{
          peers: { state: string }[];
        }>();
        if (peers.length !== members.length || peers.some(({ state }) => state !== 'active')) return false;
      }
      return true;
    },
    240_000,
  );
}

const hostNames = (count: number): string[] => Array.from({ length: count }, (_, index) => `host${index}`);

/** Runs `change` and waits until each of `count` nodes has been heard of. */
async function measure(
  count: number,
  subscribe: (heard: (node: number) => void) => () => void,
  change: () => void,
): Promise<number> {
  const begun = performance.now();
  return new Promise((resolve, reject) => {
    const missing = new Set(Array.from({ length: count }, (_, index) => index));
    const limit = setTimeout(() => reject(new Error(`not at ${[...missing]} in ${LIMIT_MS} ms`)), LIMIT_MS);
    const end = subscribe((node) => {
      if (!missing.delete(node) || missing.size > 0) return;
      clearTimeout(limit);
      end();
      resolve(performance.now() - begun);
    });
    change();
  });
}

async function spreadBesideSerf(nodes: number, changes: number): Promise<void> {
  const cluster = await createCluster({
    agents: hostNames(nodes),
    license: { maxNodes: 300, maxServices: 5_000 },
  });
  const serfs: SerfNode[] = [];
  const ends: (() => void)[] = [];
  try {
    const { lab, members } = cluster;
    console.log(`${nodes} agents have joined, ${load()}`);
    for (const { agent } of members)
      serfs.push(
        await startSerf(
          lab,
          agent.host.name,
          serfs.length === 0 ? undefined : lab.host('host0').address.ipv4,
        ),
      );
    await eventually('serf is complete', async () => (await serfs[0]?.members()) === nodes, 60_000);
    console.log('serf is complete');
    await settled(cluster);

    let heard: (node: number, name: string) => void = () => {};
    for (const [node, member] of members.entries())
      ends.push(await follow(member, (name) => heard(node, name)));
    let current = '';
    for (const [node, serf] of serfs.entries())
      serf.onData((data) => {
        if (data.includes(current)) heard(node, current);
      });

    const subscribe = (name: string) => (tell: (node: number) => void) => {
      heard = (node, one) => {
        if (one === name) tell(node);
      };
      return () => {
        heard = () => {};
      };
    };
    const times = { arctic: [] as number[], serf: [] as number[] };
    console.log(`${nodes} nodes, ${changes} changes each, ${load()}`);
    for (let index = -2; index < changes; index += 1) {
      const from = (index + nodes) % nodes;
      const [member, target, serf] = [members[from], members[(from + 1) % nodes], serfs[from]];
      if (member === undefined || target === undefined || serf === undefined) continue;
      const name = `bench-${index + 2}-x`;
      const arctic = await measure(nodes, subscribe(name), () => void write(member, target, name));
      await sleep(QUIET_MS);
      current = `serf-${index + 2}-x`;
      const other = await measure(nodes, subscribe(current), () => serf.send(current));
      current = '\u0000never';
      await sleep(QUIET_MS);
      // The first two of each warm the path.
      if (index < 0) continue;
      times.arctic.push(arctic);
      times.serf.push(other);
    }
    for (const [name, values] of Object.entries(times))
      console.log(
        `${name.padEnd(6)} ms to all of ${nodes}: median ${spread(values)}, p95 ${quantile(values, 0.95).toFixed(1)}; raw ${values.map((one) => one.toFixed(0)).join(' ')}`,
      );
    console.log(
      `arctic to serf, medians: ${(median(times.arctic) / median(times.serf)).toFixed(3)}; ${load()}`,
    );
  } finally {
    for (const end of ends) end();
    for (const serf of serfs) serf.close();
    await cluster.lab.destroy();
  }
}

async function manyWrites(agents: number, writes: number): Promise<void> {
  const begun = performance.now();
  const cluster = await createCluster({
    agents: hostNames(agents),
    license: { maxNodes: 300, maxServices: 5_000 },
  });
  const ends: (() => void)[] = [];
  try {
    const { members } = cluster;
    await settled(cluster);
    console.log(
      `${agents} agents are one mesh after ${((performance.now() - begun) / 1_000).toFixed(0)} s, ${load()}`,
    );
    const held = members.map(() => new Set<string>());
    let complete: () => void = () => {};
    for (const [index, member] of members.entries())
      ends.push(
        await follow(member, (name) => {
          held[index]?.add(name);
          if (held.every(({ size }) => size === writes)) complete();
        }),
      );
    const from = performance.now();
    const done = new Promise<void>((resolve, reject) => {
      complete = resolve;
      setTimeout(
        () => reject(new Error(`they hold ${held.map(({ size }) => size)} of ${writes}`)),
        LIMIT_MS,
      ).unref();
    });
    let answered = 0;
    await Promise.all(
      members.map(async (member, index) => {
        for (let number = index; number < writes; number += agents) {
          await write(member, members[(index + 1) % agents] as Member, `bench-${number}-x`);
          answered = performance.now() - from;
        }
      }),
    );
    await done;
    const took = performance.now() - from;
    const digests = await eventually('one digest', async () => {
      const all = new Set(
        await Promise.all(
          members.map(
            async ({ agent, token }) =>
              (await agent.request('GET', '/v1/cluster/status', { token })).json<{
                projection_digest: string;
              }>().projection_digest,
          ),
        ),
      );
      return all.size === 1 && all;
    });
    console.log(
      `${writes} writes over ${agents} agents: the last answer after ${(answered / 1_000).toFixed(2)} s, ` +
        `everything everywhere after ${(took / 1_000).toFixed(2)} s (${agents * writes} arrivals), one digest ${[...digests][0]?.slice(0, 12)}; ${load()}`,
    );
  } finally {
    for (const end of ends) end();
    await cluster.lab.destroy();
  }
}

console.log(describeMachine());
const [count, amount] = numbers.map(Number);
if (mode === 'spread') await spreadBesideSerf(count ?? 10, amount ?? 20);
else if (mode === 'writes') await manyWrites(count ?? 30, amount ?? 200);
else throw new Error(`'${mode}' is neither spread nor writes`);
