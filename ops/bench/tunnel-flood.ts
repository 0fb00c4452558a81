/**
 * An established peer's rate beside bad datagrams: forged, replayed, truncated and foreign ones at the tunnel's port, and in turn
 * the same datagrams at a port of the same host whose program throws them away, since whoever sends and receives that many takes of
 * the two cores what the tunnel then lacks. The bar is 0.9 of the rate beside the latter.
 *
 *   node --import=tsx ops/bench/tunnel-flood.ts [rounds]     each round sends 1,000,000 to either
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { loadavg } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { captureSamples, sendBad } from '../../test/kernel/iptun/flood.ts';
import { INSIDE, makeLab, PORT } from '../../test/kernel/iptun/lab.ts';
import { compileTool } from '../lab/build-tools.ts';
import { describeMachine } from './machine.ts';
import { median } from './statistics.ts';
import { awaitContender, type Contender } from './tunnel-peers.ts';
import { flood, iperf, serveLoad } from './tunnel-works.ts';

const ROUNDS = Number(process.argv[2] ?? 5);
const BAD = 1_000_000;
const SECONDS = 8;
/** Bad ones a second: both ports must get as many in the time that is measured, however fast each throws them away. */
const BAD_RATE = BAD / SECONDS;
const PAYLOAD = 1_372;
/** A rate that two busy cores carry without loss. */
const PACED = 10_000;
const BAR = 0.9;
/** Where nobody waits for what comes. */
const ELSEWHERE = 7_701;

const children: ChildProcess[] = [];
const teardowns: (() => unknown)[] = [];
try {
  const tool = await compileTool('udptool');
  const lab = await makeLab({ teardown: (undo: () => unknown) => teardowns.push(undo) });
  const { a, b } = lab.spaces;
  children.push(...serveLoad(b, tool));
  children.push(spawn('ip', [...b.prefix, tool, 'serve', String(ELSEWHERE)], { stdio: 'ignore' }));
  const contender: Contender = { name: 'arctic', from: a, to: b, address: INSIDE.b.v4, pids: [] };
  await sleep(500);
  await awaitContender(contender);
  const samples = await captureSamples(a, b);
  console.log(`${describeMachine()}\nload average before: ${loadavg()[0]?.toFixed(1)}\n`);

  const works = {
    'TCP inside, Gbit/s': async () =>
      ((await iperf(contender, SECONDS)).sum_received?.bits_per_second ?? 0) / 1e9,
    [`UDP, ${PACED} packets a second offered, delivered`]: async () =>
      (await flood(contender, tool, PAYLOAD, SECONDS, PACED)).delivered,
  };
  const ports = { 'beside it elsewhere': ELSEWHERE, 'beside it at the tunnel': PORT };
  console.log(
    `| work | alone | ${Object.keys(ports).join(' | ')} | ratio of the two | bar |\n|---|---|---|---|---|---|`,
  );
  for (const [name, work] of Object.entries(works)) {
    const alone: number[] = [];
    const beside: Record<string, number[]> = {};
    for (let round = 0; round < ROUNDS; round += 1) {
      alone.push(await work());
      const order = Object.entries(ports);
      for (const [where, port] of round % 2 === 0 ? order : order.reverse()) {
        const [rate, sent] = await Promise.all([work(), sendBad(a, port, BAD, samples, BAD_RATE)]);
        beside[where] = [...(beside[where] ?? []), rate];
        process.stderr.write(
          `${name}, ${where}: ${rate.toFixed(2)}, ${Math.round(sent)} bad ones a second\n`,
        );
      }
    }
    const [elsewhere = [], here = []] = Object.keys(ports).map((where) => beside[where]);
    const ratio = median(here.map((rate, round) => rate / (elsewhere[round] ?? Number.NaN)));
    const row = [alone, elsewhere, here].map((rates) => median(rates).toFixed(2));
    console.log(
      `| ${[name, ...row, ratio.toFixed(2), `>= ${BAR} ${ratio >= BAR ? 'met' : 'missed'}`].join(' | ')} |`,
    );
  }
  const { refused, peers } = await lab.hosts.b.stats();
  console.log(`\n${ROUNDS} rounds; refused: ${JSON.stringify({ ...refused, peer: peers[0]?.refused })}`);
} finally {
  for (const child of children) child.kill('SIGKILL');
  for (const undo of teardowns.reverse()) await undo();
}
