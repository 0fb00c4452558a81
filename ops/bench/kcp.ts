/**
 * Services over KCP beside kcptun, direct connections and Arctic over TCP, on emulated links of 200 Mbit/s and 100 ms that
 * lose much. Interleaved in one lab for each loss. Prints Markdown: medians, raw values, ratios of Arctic over KCP, bars.
 *
 *   node --import=tsx ops/bench/kcp.ts [--rounds=3] [--loss=1,5,15] [--seconds=4]
 *
 * Needs root. Installs kcptun with apt-get when it is missing. Absolute values mean nothing on a shared machine.
 */
import { loadavg } from 'node:os';
import { parseArgs } from 'node:util';
import { describeMachine } from './machine.ts';
import { median } from './statistics.ts';
import { createTcpLab, type Outcome } from './tcp-lab.ts';
import { installPeers } from './tcp-peers.ts';

const OURS = 'arctic-kcp';

interface Row {
  readonly work: string;
  readonly argv: readonly [mode: string, ...what: number[]];
  readonly unit: string;
  readonly read: (outcome: Outcome) => number;
  readonly better: 'more' | 'less';
  readonly bars: Readonly<Record<string, number>>;
  readonly losses: readonly number[];
}

const { values: options } = parseArgs({
  options: {
    rounds: { type: 'string', default: '3' },
    loss: { type: 'string', default: '1,5,15' },
    seconds: { type: 'string', default: '4' },
  },
});
const ROUNDS = Number(options.rounds);
const SECONDS = Number(options.seconds);
const LOSSES = options.loss.split(',').map(Number);

const bulk = (loss: number, bars: Row['bars']): Row => ({
  work: `first ${SECONDS} s of one flow`,
  argv: ['down', 1, SECONDS],
  unit: 'Mbit/s',
  read: ({ mbit }) => mbit,
  better: 'more',
  bars,
  losses: [loss],
});
const fetching = (label: string, bytes: number, bars: Row['bars']): Row => ({
  work: `new connection and ${label}`,
  argv: ['get', bytes, 5],
  unit: 'ms',
  read: ({ p50 }) => p50,
  better: 'less',
  bars,
  losses: [1],
});
const ROWS: readonly Row[] = [
  bulk(1, {}),
  bulk(5, { kcptun: 1.3, 'direct-bbr': 1.5 }),
  bulk(15, { kcptun: 1.3, 'direct-bbr': 4 }),
  fetching('64 KB', 65_536, { kcptun: 1.1, direct: 0.4 }),
  fetching('1 MB', 1_048_576, { kcptun: 1.1, direct: 0.15 }),
];
const CPU_BAR = 0.2;

type Outcomes = Map<string, Outcome[]>;

function line(
  work: string,
  name: string,
  raw: readonly number[],
  digits: number,
  ratio: number,
  bar: string,
): void {
  const shown = raw.map((value) => value.toFixed(digits)).join(' ');
  const compared = name === OURS ? '' : ratio.toFixed(2);
  console.log(`| ${work} | ${name} | ${median(raw).toFixed(digits)} | ${shown} | ${compared} | ${bar} |`);
}

function print(row: Row, outcomes: Outcomes): void {
  const ours = outcomes.get(OURS) ?? [];
  const middle = median(ours.map((one) => row.read(one)));
  for (const [name, of] of outcomes) {
    const raw = of.map((one) => row.read(one));
    const ratio = middle / median(raw);
    const bar = row.bars[name];
    const met = bar !== undefined && (row.better === 'more' ? ratio >= bar : ratio <= bar);
    const said =
      bar === undefined ? '' : `${row.better === 'more' ? '>=' : '<='} ${bar} ${met ? 'met' : 'missed'}`;
    line(`${row.work}, ${row.unit}`, name, raw, row.unit === 'ms' ? 1 : 0, ratio, said);
  }
  if (row.unit === 'ms') return;
  const cpu = median(ours.map((one) => one.cpuPerGigabyte));
  for (const [name, of] of outcomes) {
    if (name.startsWith('direct')) continue;
    const raw = of.map((one) => one.cpuPerGigabyte);
    const ratio = cpu / median(raw);
    const said = name === 'kcptun' ? `<= ${CPU_BAR} ${ratio <= CPU_BAR ? 'met' : 'missed'}` : '';
    line(`${row.work}, CPU s/GB`, name, raw, 2, ratio, said);
  }
}

async function play(loss: number): Promise<void> {
  const link = { rateMbit: 200, delayMs: 50, lossPercent: loss, queueMs: 50 };
  const lab = await createTcpLab(['kcptun'], link, ['tcp', 'kcp']);
  const rows = ROWS.filter(({ losses }) => losses.includes(loss));
  const results = new Map<Row, Outcomes>(rows.map((row) => [row, new Map()]));
  try {
    for (let round = 0; round < ROUNDS; round += 1) {
      for (const row of rows) {
        for (const contender of lab.contenders) {
          const outcome = await lab.load(contender, ...row.argv);
          const of = results.get(row);
          of?.set(contender.name, [...(of.get(contender.name) ?? []), outcome]);
          process.stderr.write(`${loss} %, ${row.work}, ${contender.name}: ${JSON.stringify(outcome)}\n`);
        }
      }
    }
    console.log(`\n### 200 Mbit/s, 100 ms, ${loss} % loss\n`);
    console.log(`${ROUNDS} rounds; load average ${loadavg()[0]?.toFixed(1)} at the end.\n`);
    console.log('| work | by | median | raw | Arctic over KCP to it | bar |\n|---|---|---|---|---|---|');
    for (const [row, outcomes] of results) print(row, outcomes);
  } finally {
    await lab.destroy();
  }
}

const versions = await installPeers();
console.log(`${describeMachine()}\n${versions}`);
for (const loss of LOSSES) await play(loss);
