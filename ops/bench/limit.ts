/**
 * The bandwidth limit of a service over TCP: what arrives against what was set, at each rate, with each number of flows, in
 * both directions, and when it is changed under traffic. Counted where the relays write to clients and servers.
 *
 *   node --import=tsx ops/bench/limit.ts [seconds each, default 4]
 *
 * Needs root. A limit is changed live between the rows: the agents are never restarted.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { describeMachine } from './machine.ts';
import { createTcpLab } from './tcp-lab.ts';

const RATES = [1, 10, 100, 1_000] as const;
const FLOWS = [1, 4, 64] as const;
/** The free burst and TCP's start are over by then. */
const SETTLE_MS = 1_500;
const TOLERANCE = 0.02;

const seconds = Number(process.argv[2] ?? 4);
const lab = await createTcpLab([]);
let worst = 0;

async function measure(direction: 'down' | 'up'): Promise<number> {
  const side = direction === 'down' ? 'entry' : 'exit';
  const from = await lab.delivered(side);
  await sleep(seconds * 1_000);
  const to = await lab.delivered(side);
  return ((to.bytes - from.bytes) * 8) / (to.at - from.at) / 1e6;
}

try {
  const arctic = lab.contenders.find(({ name }) => name === 'arctic');
  if (arctic === undefined) throw new Error('the lab has no service');
  console.log(
    `${describeMachine()}\n\n| limit, Mbit/s | flows | down | up | down, changed to half under traffic |`,
  );
  console.log('|---|---|---|---|---|');
  const noted = (got: number, wanted: number): string => {
    const off = got / wanted - 1;
    worst = Math.max(worst, Math.abs(off));
    return `${got.toFixed(got < 10 ? 3 : 1)} (${off >= 0 ? '+' : ''}${(off * 100).toFixed(1)} %)`;
  };
  for (const rate of RATES) {
    for (const flows of FLOWS) {
      const cells: string[] = [];
      for (const direction of ['down', 'up'] as const) {
        await lab.limit(rate);
        const halved = direction === 'down';
        const lasts = (SETTLE_MS / 1_000 + seconds) * (halved ? 2 : 1) + 2;
        const load = lab.load(arctic, direction, flows, lasts);
        await sleep(SETTLE_MS);
        cells.push(noted(await measure(direction), rate));
        if (halved) {
          await lab.limit(rate / 2);
          await sleep(SETTLE_MS);
          cells.push(noted(await measure(direction), rate / 2));
        }
        await load;
      }
      const [down = '', half = '', up = ''] = cells;
      console.log(`| ${rate} | ${flows} | ${down} | ${up} | ${half} |`);
    }
  }
  const met = worst <= TOLERANCE ? 'met' : 'missed';
  console.log(`\nworst: ${(worst * 100).toFixed(1)} %, bar ${TOLERANCE * 100} % ${met}`);
} finally {
  await lab.destroy();
}
