/**
 * The TCP engine beside what a user would pick instead, on a clean link and on emulated long, lossy ones, interleaved in
 * one lab each. Prints Markdown: medians, raw values in the order they were measured, Arctic's ratios and their bars.
 *
 *   node --import=tsx ops/bench/tcp.ts [--quick] [--rounds=3] [--only=clean]
 *
 * Needs root. Installs haproxy, nginx and shadowsocks-libev with apt-get when they are missing. Absolute values mean
 * nothing on a shared machine.
 */
import { loadavg } from 'node:os';
import { parseArgs } from 'node:util';
import { describeMachine } from './machine.ts';
import { median } from './statistics.ts';
import { createTcpLab, type Outcome } from './tcp-lab.ts';
import { installPeers } from './tcp-peers.ts';
import { type Measure, type Scene, scenes, type Work } from './tcp-works.ts';

const { values: options } = parseArgs({
  options: {
    quick: { type: 'boolean', default: false },
    rounds: { type: 'string' },
    only: { type: 'string' },
  },
});
const ROUNDS = Number(options.rounds ?? (options.quick ? 1 : 3));
if (!Number.isInteger(ROUNDS) || ROUNDS < 1) throw new Error('--rounds takes a whole number from 1');

/** Outcomes by contender, in the order they were measured. */
type Results = Map<Work, Map<string, Outcome[]>>;

/** A median alone can hide that nothing was carried. */
function shown(measure: Measure, outcomes: readonly Outcome[]): string {
  const raw = outcomes.map((one) => measure.read(one));
  const failed = outcomes.reduce((sum, one) => sum + one.errors, 0);
  const list = raw.map((value) => value.toFixed(measure.digits)).join(' ');
  return `${median(raw).toFixed(measure.digits)} | ${list}${failed === 0 ? '' : ` (${failed} errors)`}`;
}

function verdict(measure: Measure, contender: string, ratio: number): string {
  const bar = measure.bars[contender];
  if (bar === undefined) return '';
  const met = measure.better === 'more' ? ratio >= bar : ratio <= bar;
  return `${measure.better === 'more' ? '>=' : '<='} ${bar} ${met ? 'met' : 'missed'}`;
}

function printMeasure(work: Work, measure: Measure, results: ReadonlyMap<string, Outcome[]>): void {
  const ours = median((results.get('arctic') ?? []).map((one) => measure.read(one)));
  for (const [contender, outcomes] of results) {
    if (measure.proxiesOnly === true && contender.startsWith('direct')) continue;
    const ratio = ours / median(outcomes.map((one) => measure.read(one)));
    const compared =
      contender === 'arctic' ? '|' : `${ratio.toFixed(2)} | ${verdict(measure, contender, ratio)}`;
    const label = `${work.name}: ${measure.name}${measure.unit === '' ? '' : `, ${measure.unit}`}`;
    console.log(`| ${label} | ${contender} | ${shown(measure, outcomes)} | ${compared} |`);
  }
}

async function play(scene: Scene): Promise<void> {
  const lab = await createTcpLab(scene.peers, scene.link);
  const results: Results = new Map(scene.works.map((work) => [work, new Map()]));
  try {
    for (let round = 0; round < ROUNDS; round += 1) {
      for (const work of scene.works) {
        for (const contender of lab.contenders) {
          if (work.contenders !== undefined && !work.contenders.includes(contender.name)) continue;
          const outcome = await work.run(lab, contender);
          const of = results.get(work);
          of?.set(contender.name, [...(of.get(contender.name) ?? []), outcome]);
          process.stderr.write(
            `${scene.name}, ${work.name}, ${contender.name}: ${JSON.stringify(outcome)}\n`,
          );
        }
      }
    }
    console.log(`\n### ${scene.name}\n`);
    console.log(
      `Arctic's ${lab.arctic}; ${ROUNDS} rounds; load average ${loadavg()[0]?.toFixed(1)} at the end.\n`,
    );
    console.log('| work | by | median | raw | Arctic to it | bar |\n|---|---|---|---|---|---|');
    for (const [work, of] of results) {
      for (const measure of work.measures) printMeasure(work, measure, of);
    }
  } finally {
    await lab.destroy();
  }
}

const versions = await installPeers();
console.log(
  `${describeMachine()}\n${versions}\nload average before: ${loadavg()
    .map((one) => one.toFixed(1))
    .join(' ')}`,
);
for (const scene of scenes(options.quick)) {
  if (options.only === undefined || scene.name.includes(options.only)) await play(scene);
}
