/**
 * The TCP engine beside what a user would pick instead, on a clean link and on emulated long, lossy ones, interleaved in
 * one lab each. Prints Markdown: medians, raw values in the order they were measured, Arctic's ratios and their bars.
 *
 *   node --import=tsx ops/bench/tcp.ts [--quick] [--rounds=3] [--rows=clean/1-flow,100ms-1] [--by=haproxy,nginx]
 *   node --import=tsx ops/bench/tcp.ts --list
 *
 * A row is a link, or a link and a work; `--list` prints them. A ratio is the median of the
 * ratios of the rounds. Needs root. Installs haproxy, nginx, shadowsocks-libev and kcptun with apt-get when they are missing.
 * Absolute values mean nothing on a shared machine.
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
    rows: { type: 'string' },
    by: { type: 'string' },
    list: { type: 'boolean', default: false },
  },
});
const ROUNDS = Number(options.rounds ?? (options.quick ? 1 : 3));
if (!Number.isInteger(ROUNDS) || ROUNDS < 1) throw new Error('--rounds takes a whole number from 1');
const ROWS = options.rows?.split(',');
const BY = options.by?.split(',');

const wanted = (scene: Scene, work: Work): boolean =>
  ROWS === undefined || ROWS.includes(scene.key) || ROWS.includes(`${scene.key}/${work.key}`);
/** A misspelt row would look like one that was measured. */
function selected(all: readonly Scene[]): readonly Scene[] {
  const known = all.flatMap((scene) => [scene.key, ...scene.works.map((work) => `${scene.key}/${work.key}`)]);
  const unknown = ROWS?.filter((row) => !known.includes(row)) ?? [];
  if (unknown.length > 0)
    throw new Error(`no such row: ${unknown.join(', ')}; there are ${known.join(', ')}`);
  return all
    .map((scene) => ({
      ...scene,
      works: scene.works.filter((work) => wanted(scene, work)),
      peers: scene.peers.filter((peer) => BY === undefined || BY.includes(peer)),
    }))
    .filter(({ works }) => works.length > 0);
}

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

function ownVerdict({ least }: Measure, figure: number): string {
  return least === undefined ? '' : `>= ${least} ${figure >= least ? 'met' : 'missed'}`;
}

const read = (measure: Measure, outcome: Outcome | undefined): number =>
  outcome === undefined ? Number.NaN : measure.read(outcome);

function printMeasure(work: Work, measure: Measure, results: ReadonlyMap<string, Outcome[]>): void {
  const ours = (results.get('arctic') ?? []).map((one) => measure.read(one));
  for (const [contender, outcomes] of results) {
    if (measure.proxiesOnly === true && contender.startsWith('direct')) continue;
    const ratio = median(ours.map((own, round) => own / read(measure, outcomes[round])));
    const compared =
      contender === 'arctic'
        ? `| ${ownVerdict(measure, median(ours))}`
        : `${ratio.toFixed(2)} | ${verdict(measure, contender, ratio)}`;
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

const chosen = selected(scenes(options.quick));
if (options.list) {
  for (const { key, works } of chosen) console.log(works.map((work) => `${key}/${work.key}`).join('\n'));
  process.exit();
}
const versions = await installPeers();
console.log(
  `${describeMachine()}\n${versions}\nload average before: ${loadavg()
    .map((one) => one.toFixed(1))
    .join(' ')}`,
);
for (const scene of chosen) await play(scene);
