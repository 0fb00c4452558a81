/**
 * The bandwidth limit of a service: what arrives against what was set, at each rate, with each number of flows, in both
 * directions, and when it is changed to half and back under traffic. Counted where the relays write to clients and servers.
 *
 *   node --import=tsx ops/bench/limit.ts [seconds each, default 4] [--transport=tcp|kcp] [--rates=1,10,100,1000]
 *
 * Needs root. A limit is changed live between the rows: the agents are never restarted. Rates that the transport does not
 * carry here without a limit are left out, and said to be.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { describeMachine } from './machine.ts';
import { createTcpLab } from './tcp-lab.ts';

const FLOWS = [1, 4, 64] as const;
/** The free burst and TCP's start are over by then. */
const SETTLE_MS = 1_500;
const TOLERANCE = 0.02;
/** Of what goes through without a limit: beyond it the path, not the bucket, is measured. */
const HEADROOM = 0.9;

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    transport: { type: 'string', default: 'tcp' },
    rates: { type: 'string', default: '1,10,100,1000' },
  },
});
const transport = values.transport === 'kcp' ? 'kcp' : 'tcp';
if (transport !== values.transport) throw new Error(`--transport=${values.transport}: tcp or kcp`);
const rates = values.rates.split(',').map(Number);
if (rates.some((rate) => !(rate > 0)))
  throw new Error(`--rates=${values.rates}: Mbit/s above 0, with commas between`);
const seconds = Number(positionals[0] ?? 4);
const lab = await createTcpLab([], undefined, [transport]);
let worst = 0;

async function measure(direction: 'down' | 'up'): Promise<number> {
  const side = direction === 'down' ? 'entry' : 'exit';
  const from = await lab.delivered(side);
  await sleep(seconds * 1_000);
  const to = await lab.delivered(side);
  return ((to.bytes - from.bytes) * 8) / (to.at - from.at) / 1e6;
}

try {
  const arctic = lab.contenders.find(({ name }) => name.startsWith('arctic'));
  if (arctic === undefined) throw new Error('the lab has no service');
  const carried: number[] = [];
  for (const direction of ['down', 'up'] as const) {
    const load = lab.load(arctic, direction, 1, SETTLE_MS / 1_000 + seconds + 2);
    await sleep(SETTLE_MS);
    carried.push(await measure(direction));
    await load;
  }
  const most = Math.min(...carried);
  const measured = rates.filter((rate) => rate <= most * HEADROOM);
  console.log(
    `${transport}, without a limit ${most.toFixed(0)} Mbit/s; left out: ${rates.filter((rate) => !measured.includes(rate)).join(', ') || 'nothing'}`,
  );
  console.log(
    `${describeMachine()}\n\n| limit, Mbit/s | flows | down | changed to half under traffic | and back | up | changed to half under traffic | and back |`,
  );
  console.log(`|${'---|'.repeat(8)}`);
  const noted = (got: number, wanted: number): string => {
    const off = got / wanted - 1;
    worst = Math.max(worst, Math.abs(off));
    return `${got.toFixed(got < 10 ? 3 : 1)} (${off >= 0 ? '+' : ''}${(off * 100).toFixed(1)} %)`;
  };
  for (const rate of measured) {
    for (const flows of FLOWS) {
      const cells: string[] = [];
      for (const direction of ['down', 'up'] as const) {
        const steps = [rate, rate / 2, rate];
        await lab.limit(rate);
        const load = lab.load(arctic, direction, flows, (SETTLE_MS / 1_000 + seconds) * steps.length + 3);
        for (const step of steps) {
          await lab.limit(step);
          await sleep(SETTLE_MS);
          cells.push(noted(await measure(direction), step));
        }
        await load;
      }
      console.log(`| ${rate} | ${flows} | ${cells.join(' | ')} |`);
    }
  }
  if (measured.length === 0) throw new Error('no rate is within what goes through without a limit');
  const met = worst <= TOLERANCE ? 'met' : 'missed';
  console.log(`\nworst: ${(worst * 100).toFixed(1)} %, bar ${TOLERANCE * 100} % ${met}`);
} finally {
  await lab.destroy();
}
