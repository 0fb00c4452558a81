/** What the TCP benchmark runs, and the bars of PERFORMANCE that each figure has to meet. */
import type { LinkOptions } from '../lab/lab.ts';
import type { Contender, Outcome, PeerName, TcpLab } from './tcp-lab.ts';

/** One figure of an outcome. */
export interface Measure {
  readonly name: string;
  readonly unit: string;
  readonly digits: number;
  readonly read: (outcome: Outcome) => number;
  /** Whether Arctic's ratio to another shall be at least or at most the bar. */
  readonly better: 'more' | 'less';
  /** Bars of Arctic's ratio by contender. */
  readonly bars: Readonly<Record<string, number>>;
  /** Bar of Arctic's own figure, at least. */
  readonly least?: number;
  /** Compare with all that ran, or only with those that have a bar. */
  readonly proxiesOnly?: boolean;
}

export interface Work {
  /** What `--rows` calls it, behind its scene's. */
  readonly key: string;
  readonly name: string;
  /** All of the lab's when undefined. */
  readonly contenders?: readonly string[];
  readonly run: (lab: TcpLab, contender: Contender) => Promise<Outcome>;
  readonly measures: readonly Measure[];
}

export interface Scene {
  readonly key: string;
  readonly name: string;
  readonly link?: LinkOptions;
  readonly peers: readonly PeerName[];
  readonly works: readonly Work[];
}

const CPU = { name: 'CPU', unit: 's/GB', digits: 2, better: 'less', proxiesOnly: true } as const;

const throughput = (bars: Measure['bars']): Measure => ({
  name: 'throughput',
  unit: 'Mbit/s',
  digits: 0,
  read: ({ mbit }) => mbit,
  better: 'more',
  bars,
});

const cpu = (bars: Measure['bars']): Measure => ({ ...CPU, read: (one) => one.cpuPerGigabyte, bars });

const latency = (name: string, bars: Measure['bars']): Measure => ({
  name,
  unit: 'ms',
  digits: 2,
  read: ({ p50 }) => p50,
  better: 'less',
  bars,
});

const CPU_BARS = { haproxy: 0.6, 'haproxy-64k': 0.75, nginx: 0.6, shadowsocks: 0.55, kcptun: 0.05 };

function clean(seconds: number): Scene {
  return {
    key: 'clean',
    name: 'clean link',
    peers: ['haproxy', 'haproxy-64k', 'nginx', 'shadowsocks', 'kcptun'],
    works: [
      {
        key: '1-flow',
        name: 'bulk, 1 flow',
        run: (lab, one) => lab.load(one, 'down', 1, seconds),
        measures: [
          throughput({ haproxy: 1.7, 'haproxy-64k': 1.3, nginx: 1.9, shadowsocks: 1.8, kcptun: 40 }),
          cpu(CPU_BARS),
        ],
      },
      {
        key: '16-flows',
        name: 'bulk, 16 flows',
        run: (lab, one) => lab.load(one, 'down', 16, seconds),
        measures: [
          throughput({ haproxy: 1.6, 'haproxy-64k': 1.25, nginx: 1.8, shadowsocks: 1.8, kcptun: 35 }),
          cpu(CPU_BARS),
        ],
      },
      {
        key: 'connections',
        name: 'new connections, 16 at a time',
        run: (lab, one) => lab.load(one, 'crr', 16, seconds, 64, 64),
        measures: [
          {
            name: 'rate',
            unit: '1/s',
            digits: 0,
            read: ({ operations }) => operations,
            better: 'more',
            bars: { haproxy: 5, 'haproxy-64k': 5, nginx: 3.5, shadowsocks: 1.5, kcptun: 2.5 },
          },
          { ...CPU, unit: 'ms each', read: (one) => one.cpuPerOperation, bars: {} },
        ],
      },
      {
        key: 'ping-pong',
        name: 'ping-pong of 64 bytes',
        run: (lab, one) => lab.load(one, 'rr', 1, seconds, 64, 64),
        measures: [latency('p50', { haproxy: 1.1 })],
      },
    ],
  };
}

interface EmulatedBars {
  readonly direct: number;
  readonly 'direct-bbr': number;
  readonly 'haproxy-bbr'?: number;
  readonly kcptun?: number;
}

function emulated(delay: number, loss: number, bars: EmulatedBars, further: readonly Work[] = []): Scene {
  return {
    key: `${delay}ms-${loss}`,
    name: `200 Mbit/s, ${delay} ms, ${loss} % loss`,
    // The emulator delays one way; loss is in both directions.
    link: { rateMbit: 200, delayMs: delay / 2, lossPercent: loss, queueMs: 50 },
    peers: ['haproxy-bbr', ...(bars.kcptun === undefined ? [] : (['kcptun'] as const))],
    works: [
      {
        key: 'first-4s',
        name: 'first 4 s of one flow',
        run: (lab, one) => lab.load(one, 'down', 1, 4),
        measures: [throughput({ ...bars }), cpu({})],
      },
      ...further,
    ],
  };
}

const fetching = (label: string, bytes: number, count: number, bar: number): Work => ({
  key: label.replace(' ', ''),
  name: `new connection and ${label}`,
  run: (lab, one) => lab.load(one, 'get', bytes, count),
  measures: [latency('p50', { direct: bar })],
});

/** The line carries 1,448 bytes of every 1,500: 193 Mbit/s of payload. */
const STEADY: Work = {
  key: 'steady',
  name: 'steady state, 6 s after 3 s',
  contenders: ['direct-bbr', 'haproxy-bbr', 'arctic'],
  run: (lab, one) => lab.load(one, 'down', 1, 9, 3),
  measures: [{ ...throughput({}), least: 183 }],
};

const fairness = (flows: number): Work => ({
  key: `${flows}-flows`,
  name: `${flows} flows at once, 8 s`,
  contenders: ['direct-bbr', 'haproxy-bbr', 'arctic'],
  run: (lab, one) => lab.load(one, 'down', flows, 8),
  measures: [
    throughput({}),
    {
      // 8 s of Mbit/s are as many MB.
      name: 'slowest flow by its fair share',
      unit: '',
      digits: 2,
      read: ({ mbit, least }) => (least * flows) / mbit,
      better: 'more',
      bars: {},
      least: 0.5,
    },
  ],
});

/** Everything, or with `quick` the main rows only, about four minutes at one round. */
export function scenes(quick: boolean): readonly Scene[] {
  const fetches = [
    fetching('64 KB', 65_536, quick ? 5 : 10, 0.4),
    fetching('1 MB', 1_048_576, quick ? 3 : 5, 0.15),
  ];
  const further = quick ? fetches : [...fetches, STEADY, fairness(4), fairness(16)];
  return [
    clean(quick ? 2 : 4),
    emulated(100, 1, { direct: 25, 'direct-bbr': 2, 'haproxy-bbr': 1.9, kcptun: 1.4 }, further),
    emulated(100, 0.1, { direct: 4, 'direct-bbr': 1.6 }),
    emulated(50, 1, { direct: 40, 'direct-bbr': 1.1 }),
  ];
}
