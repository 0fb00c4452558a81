/**
 * Many peers on one engine, each with a device, a session and an endpoint: threads, memory, and CPU while nothing is carried.
 *
 *   node --import=tsx ops/bench/tunnel-scale.ts [peers] [seconds]
 */
import { randomBytes } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { loadavg } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import type { TunnelConfig } from '../../src/engines/iptun/contract.ts';
import { startHost } from '../../test/kernel/iptun/lab.ts';
import { makeNetns } from '../../test/kernel/netns.ts';
import { describeMachine } from './machine.ts';
import { cpuSeconds } from './tunnel-works.ts';

const PEERS = Number(process.argv[2] ?? 256);
const SECONDS = Number(process.argv[3] ?? 20);

const config: TunnelConfig = {
  peers: Array.from({ length: PEERS }, (_, index) => ({
    peerId: `peer_${index}`,
    device: `arctun${index}`,
    endpoint: { host: `10.9.${index >> 8}.${index & 255}`, port: 51_840 },
    policy: {
      entries: {
        fallback: null,
        classes: [
          {
            family: 'ipv4',
            sourceLength: null,
            destLength: 24,
            routes: [
              {
                source: null,
                dest: `10.${100 + (index >> 8)}.${index & 255}.0/24`,
                serviceId: `svc_${index}`,
              },
            ],
          },
        ],
      },
      exits: { fallback: null, classes: [] },
    },
    limits: [],
  })),
};

const rssMebibytes = (pid: number): number =>
  Number(/^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1] ?? 0) / 1024;
const tunnelThreads = (pid: number): number =>
  readdirSync(`/proc/${pid}/task`).filter((thread) =>
    readFileSync(`/proc/${pid}/task/${thread}/comm`, 'utf8').startsWith('arctic-tun'),
  ).length;

const netns = await makeNetns('scale');
// Somewhere for keepalives to go.
await netns.exec('ip', 'link', 'add', 'wire0', 'type', 'veth', 'peer', 'name', 'wire1');
for (const link of ['wire0', 'wire1']) await netns.exec('ip', 'link', 'set', link, 'up');
await netns.exec('ip', 'address', 'add', '10.9.255.1/16', 'dev', 'wire0');
const host = await startHost(netns);
try {
  const pid = host.child.pid ?? 0;
  const measure = async (): Promise<{ readonly memory: number; readonly cpu: number }> => {
    await sleep(5_000);
    const before = cpuSeconds([pid]);
    await sleep(SECONDS * 1_000);
    return { memory: rssMebibytes(pid), cpu: (100 * (cpuSeconds([pid]) - before)) / SECONDS };
  };
  const empty = await measure();
  for (const { peerId } of config.peers)
    await host.call({ verb: 'session', peerId, secret: randomBytes(32).toString('hex'), side: 'initiator' });
  const begun = performance.now();
  await host.call({ verb: 'configure', config });
  const took = performance.now() - begun;
  const full = await measure();
  console.log(`${describeMachine()}\nload average: ${loadavg()[0]?.toFixed(1)}\n`);
  console.log(
    '| peers | threads of the tunnel | memory, MiB | CPU at rest, % of a core |\n|---|---|---|---|',
  );
  console.log(`| 0 | 0 | ${empty.memory.toFixed(0)} | ${empty.cpu.toFixed(2)} |`);
  console.log(`| ${PEERS} | ${tunnelThreads(pid)} | ${full.memory.toFixed(0)} | ${full.cpu.toFixed(2)} |`);
  console.log(`\nconfigured in ${Math.round(took)} ms; the process is the engine alone, run from TypeScript`);
} finally {
  await host.kill();
  netns.remove();
}
