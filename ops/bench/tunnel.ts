/**
 * The IP tunnel beside what a user would pick instead and the bare wire, between network namespaces of one machine. Every round
 * visits every candidate with every work; prints Markdown: medians, raw values in the order they were measured, Arctic's ratios
 * (medians of the ratios of a round) and their bars.
 *
 *   node --import=tsx ops/bench/tunnel.ts [--quick] [--rounds=3] [--seconds=3] [--part=throughput] [--only=tcp,64 B]
 *     [--by=arctic,nebula]
 *
 * The parts are throughput, latency, loss, ordinary and overload; each takes at most seven minutes.
 *
 * Needs root. Installs iperf3, wireguard-go, Nebula, OpenVPN, tinc and fastd with apt-get when they are missing.
 */
import type { ChildProcess } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { loadavg, setPriority, tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { INSIDE, makeLab } from '../../test/kernel/iptun/lab.ts';
import { joinByVeth, makeNetns } from '../../test/kernel/netns.ts';
import { compileTool } from '../lab/build-tools.ts';
import { describeMachine } from './machine.ts';
import { median } from './statistics.ts';
import { awaitContender, type Contender, installPeers, PEERS } from './tunnel-peers.ts';
import { type Measure, OURS, type Outcome, serveLoad, WORKS, type Work } from './tunnel-works.ts';

const { values: options } = parseArgs({
  options: {
    quick: { type: 'boolean', default: false },
    rounds: { type: 'string' },
    seconds: { type: 'string' },
    part: { type: 'string' },
    only: { type: 'string' },
    by: { type: 'string' },
  },
});
const ROUNDS = Number(options.rounds ?? (options.quick ? 1 : 3));
const SECONDS = Number(options.seconds ?? (options.quick ? 1.5 : 3));
if (!Number.isInteger(ROUNDS) || ROUNDS < 1) throw new Error('--rounds takes a whole number from 1');
if (!(SECONDS > 0)) throw new Error('--seconds takes a number above 0');
const chosen = (list: string | undefined, name: string): boolean =>
  list === undefined || list.split(',').some((one) => one.trim() === name);
const works = WORKS.filter(({ name, part }) => chosen(options.only, name) && chosen(options.part, part));
if (works.length === 0) throw new Error('no work is of that name or part');

// Everything measured goes before other work on the machine, alike for all; what is started inherits it.
setPriority(-10);
const children: ChildProcess[] = [];
const teardowns: (() => unknown)[] = [];
const scratch = mkdtempSync(join(tmpdir(), 'arctic-bench-'));
teardowns.push(() => rmSync(scratch, { recursive: true, force: true }));
const onEnd = { teardown: (undo: () => unknown) => teardowns.push(undo) };

async function contenders(tool: string): Promise<readonly Contender[]> {
  const [a, b] = [await makeNetns('bench-a'), await makeNetns('bench-b')];
  teardowns.push(
    () => a.remove(),
    () => b.remove(),
  );
  await joinByVeth(
    { netns: a, name: 'wire0', addresses: ['10.9.0.1/24'] },
    { netns: b, name: 'wire0', addresses: ['10.9.0.2/24'] },
  );
  children.push(...serveLoad(b, tool));
  const made: Contender[] = [{ name: 'veth', from: a, to: b, address: '10.9.0.2', pids: [] }];
  for (const name of OURS) {
    if (!chosen(options.by, name)) continue;
    const lab = await makeLab(onEnd, { aegis: { a: name === 'arctic-aegis', b: true } });
    const pids = [lab.hosts.a.child.pid ?? 0, lab.hosts.b.child.pid ?? 0];
    const loopDelay = async (): Promise<number> => {
      const both = await Promise.all(
        [lab.hosts.a, lab.hosts.b].map((host) => host.call({ verb: 'loopDelay' })),
      );
      return Math.max(...both.map(Number));
    };
    const { a: from, b: to } = lab.spaces;
    made.push({ name, from, to, address: INSIDE.b.v4, pids, wire: '10.9.0.2', loopDelay });
    children.push(...serveLoad(lab.spaces.b, tool));
  }
  for (const [name, start] of Object.entries(PEERS)) {
    if (!chosen(options.by, name)) continue;
    const directory = mkdtempSync(join(scratch, `${name}-`));
    const pair = {
      a: { netns: a, outside: '10.9.0.1' },
      b: { netns: b, outside: '10.9.0.2' },
      directory,
      children,
    };
    made.push(await start(pair));
  }
  await sleep(500);
  for (const one of made) await awaitContender(one);
  return made;
}

/** Outcomes by contender, one for each round. */
type Results = ReadonlyMap<string, readonly Outcome[]>;

const figures = (measure: Measure, outcomes: readonly Outcome[]): readonly number[] =>
  outcomes.map((one) => one[measure.figure] ?? Number.NaN);

function ratio(measure: Measure, results: Results, ours: string, other: string): number {
  const theirs = figures(measure, results.get(other) ?? []);
  const own = figures(measure, results.get(ours) ?? []);
  return median(own.map((value, round) => value / (theirs[round] ?? Number.NaN)));
}

function verdict(measure: Measure, ours: (typeof OURS)[number], other: string, value: number): string {
  const bar = (measure.bars[ours] ?? measure.bars.arctic)[other];
  if (bar === undefined) return '';
  const met = measure.better === 'more' ? value >= bar : value <= bar;
  return `${measure.better === 'more' ? '>=' : '<='} ${bar} ${met ? 'met' : 'missed'}`;
}

function ownVerdict({ better, own }: Measure, value: number): string {
  if (own === undefined) return '';
  const met = better === 'more' ? value >= own : value <= own;
  return `${better === 'more' ? '>=' : '<='} ${own} ${met ? 'met' : 'missed'}`;
}

function print(work: Work, results: Results): void {
  for (const measure of work.measures)
    for (const [name, outcomes] of results) {
      if (measure.figure === 'cpu' && name === 'veth') continue;
      const raw = figures(measure, outcomes);
      const compared = OURS.filter((ours) => results.has(ours)).map((ours) => {
        if (OURS.some((one) => one === name))
          return name === ours ? ` | ${ownVerdict(measure, median(raw))}` : ' | ';
        const value = ratio(measure, results, ours, name);
        return `${value.toFixed(2)} | ${verdict(measure, ours, name, value)}`;
      });
      const list = raw.map((value) => value.toFixed(measure.digits)).join(' ');
      const label = `${work.name}: ${measure.figure}, ${measure.unit}`;
      console.log(`| ${[label, name, median(raw).toFixed(measure.digits), list, ...compared].join(' | ')} |`);
    }
}

async function play(all: readonly Contender[], tool: string): Promise<void> {
  const results = new Map(works.map((work) => [work, new Map<string, Outcome[]>()]));
  for (let round = 0; round < ROUNDS; round += 1)
    // Nobody always follows the same neighbour: a processor that was busy a moment ago wakes faster.
    for (const work of works)
      for (const one of [...all.slice(round % all.length), ...all.slice(0, round % all.length)]) {
        if (work.contenders !== undefined && !work.contenders.includes(one.name)) continue;
        const outcome = await work.run(one, tool, SECONDS);
        const of = results.get(work);
        of?.set(one.name, [...(of.get(one.name) ?? []), outcome]);
        process.stderr.write(`${work.name}, ${one.name}: ${JSON.stringify(outcome)}\n`);
      }
  const ours = OURS.filter((name) => all.some((one) => one.name === name));
  console.log(`\n${ROUNDS} rounds of ${SECONDS} s; load average ${loadavg()[0]?.toFixed(1)} at the end.\n`);
  console.log(`| work | by | median | raw | ${ours.map((name) => `${name} to it | bar`).join(' | ')} |`);
  console.log(`|---|---|---|---|${ours.map(() => '---|---|').join('')}`);
  for (const [work, of] of results) print(work, of);
}

try {
  const tool = await compileTool('udptool');
  const versions = await installPeers();
  const load = loadavg().map((one) => one.toFixed(1));
  console.log(`${describeMachine()}\n${versions}\nload average before: ${load.join(' ')}`);
  await play(await contenders(tool), tool);
} finally {
  for (const child of children) child.kill('SIGKILL');
  for (const undo of teardowns.reverse()) await undo();
}
