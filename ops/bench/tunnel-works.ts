/** What the tunnel's benchmark runs between two namespaces, and the bars each figure has to meet. */
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { promisify } from 'node:util';
import type { Netns } from '../../test/kernel/netns.ts';
import { startIdleLoop } from './idle-loop.ts';
import type { Contender } from './tunnel-peers.ts';

const run = promisify(execFile);
const CLOCK_TICKS = 100;
export const UDP_PORT = 7_700;

/** Figures of one run, by name. */
export type Outcome = Readonly<Record<string, number>>;

export interface Measure {
  /** Which figure of the outcome. */
  readonly figure: string;
  readonly unit: string;
  readonly digits: number;
  /** Whether Arctic's ratio to another shall be at least or at most the bar; by contender, per AEAD of ours. */
  readonly better: 'more' | 'less';
  readonly bars: {
    readonly arctic: Readonly<Record<string, number>>;
    readonly 'arctic-aegis'?: Readonly<Record<string, number>>;
  };
  /** What our own figure has to reach, whoever else was measured. */
  readonly own?: number;
}

export interface Work {
  readonly name: string;
  /** All works of a part, three rounds of 3 s, take at most seven minutes. */
  readonly part: 'throughput' | 'latency' | 'loss' | 'ordinary' | 'overload';
  /** All when undefined. */
  readonly contenders?: readonly string[];
  readonly run: (contender: Contender, tool: string, seconds: number) => Promise<Outcome>;
  readonly measures: readonly Measure[];
}

/** User and system time of a process with all its threads, s. */
export function cpuSeconds(pids: readonly number[]): number {
  let ticks = 0;
  for (const pid of pids) {
    const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]?.split(' ') ?? [];
    ticks += Number(fields[11] ?? 0) + Number(fields[12] ?? 0);
  }
  return ticks / CLOCK_TICKS;
}

/** Threads of a process. */
export const threadsOf = (pid: number): number => readdirSync(`/proc/${pid}/task`).length;

const inside = async (netns: Netns, argv: readonly string[]): Promise<unknown> =>
  JSON.parse((await run('ip', [...netns.prefix, ...argv], { maxBuffer: 32 << 20 })).stdout);

interface IperfEnd {
  readonly end: {
    readonly sum_received?: { readonly bits_per_second: number; readonly bytes: number };
    readonly sum: { readonly packets: number; readonly lost_packets: number };
  };
}

export async function iperf(
  { from, address }: Contender,
  seconds: number,
  ...args: string[]
): Promise<IperfEnd['end']> {
  const argv = ['iperf3', '-J', '-c', address, '-t', String(seconds), ...args];
  return ((await inside(from, argv)) as IperfEnd).end;
}

export interface Flood {
  readonly offered: number;
  readonly delivered: number;
  /** Delivered a second, between the first and the last. */
  readonly steady: number;
  readonly loss: number;
  readonly late: number;
  readonly p50_us: number;
  readonly p99_us: number;
}

/** Packets of `bytes` payload, as fast as the sender can or `rate` a second. */
export const flood = async (
  { from, address }: Contender,
  tool: string,
  bytes: number,
  seconds: number,
  rate?: number,
): Promise<Flood> => {
  const paced = rate === undefined ? [] : [String(Math.round(rate))];
  const argv = [tool, 'flood', address, String(UDP_PORT), String(bytes), String(seconds), ...paced];
  return (await inside(from, argv)) as Flood;
};

export interface Echo {
  readonly sent: number;
  readonly received: number;
  readonly p50_us: number;
  readonly p99_us: number;
}

export const echo = async (
  { from, address }: Contender,
  tool: string,
  seconds: number,
  gapMicroseconds: number,
): Promise<Echo> => {
  const argv = [tool, 'echo', address, String(UDP_PORT), '64', String(seconds), String(gapMicroseconds)];
  return (await inside(from, argv)) as Echo;
};

/** Sinks of the load; both take every address of the namespace. */
export function serveLoad(netns: Netns, tool: string): readonly ChildProcess[] {
  return [
    spawn('ip', [...netns.prefix, 'iperf3', '-s'], { stdio: 'ignore' }),
    spawn('ip', [...netns.prefix, tool, 'serve', String(UDP_PORT)], { stdio: 'ignore' }),
  ];
}

/** The highest of a few rates at which at most 0.5 % is lost, packets a second. */
export async function lossFreeRate(contender: Contender, tool: string, bytes: number): Promise<number> {
  let low = 0;
  let high = (await flood(contender, tool, bytes, 0.5)).delivered * 1.2;
  for (let step = 0; step < 5; step += 1) {
    const middle = (low + high) / 2;
    if ((await flood(contender, tool, bytes, 0.7, middle)).loss <= 0.005) low = middle;
    else high = middle;
  }
  return low;
}

/** As `lossFreeRate`, with iperf3 as the sender and its default socket buffers: what its own two ends take counts too. */
async function ordinaryLossFreeRate(contender: Contender, bytes: number): Promise<number> {
  const size = ['-u', '-l', String(bytes)];
  const sum = async (bits: string): Promise<IperfEnd['end']['sum']> =>
    (await iperf(contender, 1, ...size, '-b', bits)).sum;
  const most = await sum('0');
  let low = 0;
  let high = (most.packets - most.lost_packets) * 1.2;
  for (let step = 0; step < 6; step += 1) {
    const middle = (low + high) / 2;
    const { lost_packets, packets } = await sum(String(Math.round(middle * bytes * 8)));
    if (lost_packets <= 0.005 * packets) low = middle;
    else high = middle;
  }
  return low;
}

/** Ordinary `iperf3 -u`, default socket buffers, at `rate` packets a second, there and over the bare wire: percent lost. */
async function ordinaryLoss(
  contender: Contender,
  bytes: number,
  seconds: number,
  rate: number,
): Promise<Outcome> {
  const bits = String(Math.round(rate * bytes * 8));
  const lost = async (address: string): Promise<number> => {
    const { sum } = await iperf({ ...contender, address }, seconds, '-u', '-b', bits, '-l', String(bytes));
    return (100 * sum.lost_packets) / Math.max(1, sum.packets);
  };
  const loss = await lost(contender.address);
  const wire = contender.wire === undefined ? loss : await lost(contender.wire);
  return { loss, wire, excess: loss - wire, rate: rate / 1000 };
}

const ORDINARY_LOSS: readonly Measure[] = [
  { figure: 'loss', unit: '%', digits: 3, better: 'less', bars: { arctic: {} } },
  { figure: 'wire', unit: '%', digits: 3, better: 'less', bars: { arctic: {} } },
  { figure: 'excess', unit: '%', digits: 3, better: 'less', bars: { arctic: {} }, own: 0.1 },
  { figure: 'rate', unit: 'kpps', digits: 0, better: 'more', bars: { arctic: {} } },
];

const packetsPerSecond =
  (bytes: number) =>
  async (contender: Contender, tool: string, seconds: number): Promise<Outcome> => {
    const { offered, delivered, p50_us } = await flood(contender, tool, bytes, seconds);
    return { kpps: delivered / 1000, offered: offered / 1000, delay: p50_us };
  };

const residentMebibytes = (pids: readonly number[]): number =>
  pids.reduce((sum, pid) => {
    const status = readFileSync(`/proc/${pid}/status`, 'utf8');
    return sum + Number(/^VmRSS:\s+(\d+)/m.exec(status)?.[1] ?? 0) / 1024;
  }, 0);

/** From just below what comes through to three times as much: the least delivered past it, and the memory both ends took. */
async function overload(contender: Contender, tool: string, seconds: number): Promise<Outcome> {
  const before = residentMebibytes(contender.pids);
  const most = (await flood(contender, tool, 1372, seconds)).delivered;
  const rates: number[] = [];
  for (const times of [0.9, 1.2, 1.6, 2.2, 3])
    rates.push((await flood(contender, tool, 1372, seconds, most * times)).delivered);
  const memory = residentMebibytes(contender.pids) - before;
  return { kept: Math.min(...rates.slice(1)) / (rates[0] ?? Number.NaN), memory };
}

/** The event loops of both ends beside that of an idle process, while TCP fills the tunnel. */
async function loopUnderLoad(contender: Contender, _tool: string, seconds: number): Promise<Outcome> {
  const idle = await startIdleLoop();
  try {
    await Promise.all([idle.take(), contender.loopDelay?.()]);
    await iperf(contender, seconds);
    const [beside, ours] = await Promise.all([idle.take(), contender.loopDelay?.()]);
    return { ours: ours ?? Number.NaN, idle: beside, ratio: (ours ?? Number.NaN) / beside };
  } finally {
    idle.stop();
  }
}

const WIREGUARD = 'wireguard-go';
export const OURS = ['arctic', 'arctic-aegis'] as const;

export const WORKS: readonly Work[] = [
  {
    name: 'tcp',
    part: 'throughput',
    async run(contender, _tool, seconds) {
      const before = cpuSeconds(contender.pids);
      const { sum_received } = await iperf(contender, seconds);
      const bytes = sum_received?.bytes ?? 1;
      const cpu = cpuSeconds(contender.pids) - before;
      return { throughput: (sum_received?.bits_per_second ?? 0) / 1e9, cpu: cpu / (bytes / 1e9) };
    },
    measures: [
      {
        figure: 'throughput',
        unit: 'Gbit/s',
        digits: 2,
        better: 'more',
        bars: {
          arctic: { [WIREGUARD]: 8, nebula: 4.5, openvpn: 6, tinc: 7, fastd: 7, veth: 0.25 },
          'arctic-aegis': { [WIREGUARD]: 12, nebula: 7, openvpn: 9, tinc: 10, fastd: 10, veth: 0.4 },
        },
      },
      {
        figure: 'cpu',
        unit: 's/GB',
        digits: 2,
        better: 'less',
        bars: { arctic: { [WIREGUARD]: 0.12, nebula: 0.2, openvpn: 0.2, tinc: 0.15, fastd: 0.15 } },
      },
    ],
  },
  {
    name: '64 B',
    part: 'throughput',
    run: packetsPerSecond(64),
    measures: [
      {
        figure: 'kpps',
        unit: 'kpps',
        digits: 0,
        better: 'more',
        bars: { arctic: { [WIREGUARD]: 5, nebula: 3, openvpn: 4.5, tinc: 4, fastd: 4, veth: 0.9 } },
      },
    ],
  },
  {
    name: '1372 B',
    part: 'throughput',
    run: packetsPerSecond(1372),
    measures: [
      {
        figure: 'kpps',
        unit: 'kpps',
        digits: 0,
        better: 'more',
        bars: {
          arctic: { [WIREGUARD]: 4, nebula: 2, openvpn: 4, tinc: 3.5, fastd: 3.5, veth: 0.65 },
          'arctic-aegis': { [WIREGUARD]: 6, nebula: 3, openvpn: 6, tinc: 4.5, fastd: 4.5, veth: 0.85 },
        },
      },
    ],
  },
  {
    name: 'round trip at rest',
    part: 'latency',
    async run(contender, tool, seconds) {
      const { p50_us, p99_us } = await echo(contender, tool, seconds, 1_000);
      return { p50: p50_us, p99: p99_us };
    },
    measures: [
      {
        figure: 'p50',
        unit: 'us',
        digits: 0,
        better: 'less',
        bars: { arctic: { nebula: 1.1, openvpn: 1.1, tinc: 1.1, fastd: 1.1 } },
      },
    ],
  },
  {
    name: 'round trip under TCP load',
    part: 'latency',
    async run(contender, tool, seconds) {
      const load = iperf(contender, seconds + 1);
      const { p50_us, p99_us } = await echo(contender, tool, seconds, 1_000);
      await load;
      return { p50: p50_us, p99: p99_us };
    },
    measures: [
      { figure: 'p99', unit: 'us', digits: 0, better: 'less', bars: { arctic: { nebula: 0.5 } } },
      { figure: 'p50', unit: 'us', digits: 0, better: 'less', bars: { arctic: {} } },
    ],
  },
  ...[64, 1372].map(
    (bytes): Work => ({
      name: `iperf3 -u ${bytes} B`,
      part: 'loss',
      contenders: OURS,
      run: async (contender, tool, seconds) =>
        ordinaryLoss(contender, bytes, seconds, (await lossFreeRate(contender, tool, bytes)) / 2),
      measures: ORDINARY_LOSS,
    }),
  ),
  ...[64, 1372].map(
    (bytes): Work => ({
      name: `iperf3 -u ${bytes} B at half of its own`,
      part: 'ordinary',
      contenders: OURS,
      run: async (contender, _tool, seconds) =>
        ordinaryLoss(contender, bytes, seconds, (await ordinaryLossFreeRate(contender, bytes)) / 2),
      measures: ORDINARY_LOSS,
    }),
  ),
  // Rates at which iperf3's two ends leave the tunnel half of two cores.
  ...[
    { bytes: 64, rate: 58_600 },
    { bytes: 1372, rate: 27_300 },
  ].map(
    ({ bytes, rate }): Work => ({
      name: `iperf3 -u ${bytes} B at ${rate}`,
      part: 'ordinary',
      contenders: OURS,
      run: (contender, _tool, seconds) => ordinaryLoss(contender, bytes, seconds, rate),
      measures: ORDINARY_LOSS,
    }),
  ),
  {
    name: 'overload 1372 B',
    part: 'overload',
    contenders: ['veth', ...OURS, WIREGUARD],
    run: overload,
    measures: [
      {
        figure: 'kept',
        unit: 'of what came before',
        digits: 2,
        better: 'more',
        bars: { arctic: {} },
        own: 0.95,
      },
      { figure: 'memory', unit: 'MiB', digits: 1, better: 'less', bars: { arctic: {} }, own: 32 },
    ],
  },
  {
    name: 'event loop under TCP load',
    part: 'loss',
    contenders: OURS,
    run: loopUnderLoad,
    measures: [
      { figure: 'ours', unit: 'ms, p99', digits: 2, better: 'less', bars: { arctic: {} } },
      { figure: 'idle', unit: 'ms, p99', digits: 2, better: 'less', bars: { arctic: {} } },
      { figure: 'ratio', unit: 'to idle', digits: 2, better: 'less', bars: { arctic: {} }, own: 1.5 },
    ],
  },
];
