/**
 * The tunnel's bandwidth limit, changed live: what UDP offered at one and a half times the limit gets (bar: within 2 % of it, IP
 * bytes inside) and what one TCP flow gets (bar: at least 90 % of it, payload).
 *
 *   node --import=tsx ops/bench/tunnel-limits.ts [seconds]
 */
import type { ChildProcess } from 'node:child_process';
import { loadavg } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { configOf, INSIDE, makeLab } from '../../test/kernel/iptun/lab.ts';
import { compileTool } from '../lab/build-tools.ts';
import { describeMachine } from './machine.ts';
import { awaitContender, type Contender } from './tunnel-peers.ts';
import { flood, iperf, serveLoad } from './tunnel-works.ts';

const SECONDS = Number(process.argv[2] ?? 5);
const LIMITS_MBIT = [1, 10, 100, 1_000, 10, 1];
const PAYLOAD = 1_372;
const PACKET = PAYLOAD + 28;

const children: ChildProcess[] = [];
const teardowns: (() => unknown)[] = [];
const within = (value: number, low: number, high: number): string =>
  value >= low && value <= high ? 'met' : 'missed';

try {
  const tool = await compileTool('udptool');
  const lab = await makeLab({ teardown: (undo: () => unknown) => teardowns.push(undo) });
  const { a, b } = lab.spaces;
  children.push(...serveLoad(b, tool));
  const contender: Contender = { name: 'arctic', from: a, to: b, address: INSIDE.b.v4, pids: [] };
  await sleep(500);
  await awaitContender(contender);
  console.log(`${describeMachine()}\nload average before: ${loadavg()[0]?.toFixed(1)}\n`);
  console.log('| limit, Mbit/s | UDP of it | bar | TCP of it | bar |\n|---|---|---|---|---|');
  for (const limit of LIMITS_MBIT) {
    await lab.hosts.a.call({ verb: 'configure', config: configOf('a', '10.9.0.2', limit * 1e6) });
    const offered = (limit * 1.5e6) / (PACKET * 8);
    const { steady } = await flood(contender, tool, PAYLOAD, SECONDS, offered);
    const udp = (steady * PACKET * 8) / (limit * 1e6);
    // What is queued of the flood goes first.
    await sleep(500);
    const { sum_received } = await iperf(contender, SECONDS + 3, '-O', '3');
    const tcp = (sum_received?.bits_per_second ?? 0) / (limit * 1e6);
    const verdicts = [within(udp, 0.98, 1.02), within(tcp, 0.9, 1)];
    console.log(`| ${limit} | ${udp.toFixed(3)} | ${verdicts[0]} | ${tcp.toFixed(3)} | ${verdicts[1]} |`);
  }
} finally {
  for (const child of children) child.kill('SIGKILL');
  for (const undo of teardowns.reverse()) await undo();
}
