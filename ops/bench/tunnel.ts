/**
 * The IP tunnel beside wireguard-go and the bare wire, between two namespaces: TCP inside, small and large UDP packets delivered
 * at full offered rate, and CPU for each gigabyte of TCP. Rounds visit every candidate; ratios are medians of ratios of a round.
 * Installs iperf3, wireguard-go and wireguard-tools where apt-get can.
 *
 *   node --import=tsx ops/bench/tunnel.ts [rounds] [seconds]
 */
import { type ChildProcess, execFile, execFileSync, spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import type { Test } from 'tap';
import { INSIDE, makeLab } from '../../test/kernel/iptun/lab.ts';
import type { Netns } from '../../test/kernel/netns.ts';
import { describeMachine } from './machine.ts';
import { median, spread } from './statistics.ts';

const run = promisify(execFile);
const ROUNDS = Number(process.argv[2] ?? 3);
const SECONDS = Number(process.argv[3] ?? 3);
const CLOCK_TICKS = 100;

interface Candidate {
  readonly name: string;
  readonly address: string;
  /** Whose CPU time counts. */
  readonly pids: readonly number[];
}

interface Figures {
  readonly tcpGigabits: number;
  readonly cpuSecondsPerGigabyte: number;
  readonly smallKpps: number;
  readonly largeKpps: number;
}

/** Descendants too: `ip netns exec` becomes the program itself, a daemon may not. */
function cpuSeconds(pids: readonly number[]): number {
  let ticks = 0;
  for (const pid of pids) {
    const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]?.split(' ') ?? [];
    ticks += Number(fields[11] ?? 0) + Number(fields[12] ?? 0);
  }
  return ticks / CLOCK_TICKS;
}

interface IperfEnd {
  readonly end: {
    readonly sum_received?: { readonly bits_per_second: number; readonly bytes: number };
    readonly sum: { readonly packets: number; readonly lost_packets: number };
  };
}

async function iperf(from: Netns, address: string, ...args: string[]): Promise<IperfEnd> {
  const text = await from.exec('iperf3', '-J', '-c', address, '-t', String(SECONDS), ...args);
  return JSON.parse(text) as IperfEnd;
}

async function measure(from: Netns, { address, pids }: Candidate): Promise<Figures> {
  const before = cpuSeconds(pids);
  const tcp = (await iperf(from, address)).end.sum_received ?? { bits_per_second: 0, bytes: 1 };
  const cpu = cpuSeconds(pids) - before;
  const udp = async (length: number): Promise<number> => {
    const { sum } = (await iperf(from, address, '-u', '-b', '0', '-l', String(length), '-w', '4M')).end;
    return (sum.packets - sum.lost_packets) / SECONDS / 1000;
  };
  return {
    tcpGigabits: tcp.bits_per_second / 1e9,
    cpuSecondsPerGigabyte: cpu / (tcp.bytes / 1e9),
    smallKpps: await udp(64),
    largeKpps: await udp(1372),
  };
}

const children: ChildProcess[] = [];
const teardowns: (() => unknown)[] = [];

async function startWireguard(a: Netns, b: Netns): Promise<Candidate> {
  const keys = [a, b].map(() => {
    const secret = execFileSync('wg', ['genkey']).toString().trim();
    return { secret, open: execFileSync('wg', ['pubkey'], { input: secret }).toString().trim() };
  });
  const pids: number[] = [];
  for (const [index, netns] of [a, b].entries()) {
    const name = `wgb${index}`;
    const child = spawn('ip', [...netns.prefix, 'wireguard-go', '-f', name], { stdio: 'ignore' });
    children.push(child);
    pids.push(child.pid ?? 0);
    await sleep(500);
    const own = keys[index]?.secret ?? '';
    const peer = keys[1 - index]?.open ?? '';
    await netns.exec(
      'sh',
      '-c',
      `echo ${own} | wg set ${name} listen-port ${51_820 + index} private-key /dev/stdin peer ${peer} allowed-ips 0.0.0.0/0 endpoint 10.9.0.${2 - index}:${51_821 - index}`,
    );
    await netns.exec('ip', 'address', 'add', `10.78.0.${index + 1}/24`, 'dev', name);
    await netns.exec('ip', 'link', 'set', name, 'mtu', '1420', 'up');
  }
  return { name: 'wireguard-go', address: '10.78.0.2', pids };
}

function show(name: string, figures: readonly Figures[], reference: readonly Figures[]): void {
  const column = (pick: (one: Figures) => number, digits: number): string => {
    const ratios = figures.map((one, round) => {
      const other = reference[round];
      return other === undefined ? Number.NaN : pick(one) / pick(other);
    });
    return `${spread(figures.map(pick), digits)} (x${median(ratios).toFixed(2)})`;
  };
  console.log(
    `${name.padEnd(14)} TCP ${column((one) => one.tcpGigabits, 2)} Gbit/s, ` +
      `64 B ${column((one) => one.smallKpps, 0)} kpps, 1372 B ${column((one) => one.largeKpps, 0)} kpps, ` +
      `CPU ${column((one) => one.cpuSecondsPerGigabyte, 2)} s/GB`,
  );
}

try {
  const missing = ['iperf3', 'wireguard-go', 'wg'].filter((program) => {
    try {
      execFileSync('sh', ['-c', `command -v ${program}`], { stdio: 'ignore' });
      return false;
    } catch {
      return true;
    }
  });
  if (missing.length > 0)
    await run('apt-get', [
      'install',
      '-y',
      '-q',
      '--no-install-recommends',
      'iperf3',
      'wireguard-go',
      'wireguard-tools',
    ]);
  const lab = await makeLab({ teardown: (undo: () => unknown) => teardowns.push(undo) } as unknown as Test);
  const { a, b } = lab.spaces;
  const candidates: Candidate[] = [
    { name: 'veth', address: '10.9.0.2', pids: [] },
    {
      name: 'arctic',
      address: INSIDE.b.v4,
      pids: [lab.hosts.a.child.pid ?? 0, lab.hosts.b.child.pid ?? 0],
    },
    await startWireguard(a, b),
  ];
  children.push(spawn('ip', [...b.prefix, 'iperf3', '-s'], { stdio: 'ignore' }));
  await sleep(1_500);
  console.log(describeMachine());
  const figures = new Map<string, Figures[]>(candidates.map(({ name }) => [name, []]));
  for (let round = 0; round < ROUNDS; round += 1)
    for (const candidate of candidates) figures.get(candidate.name)?.push(await measure(a, candidate));
  console.log(`medians (range) of ${ROUNDS} rounds of ${SECONDS} s; ratios against wireguard-go`);
  const reference = figures.get('wireguard-go') ?? [];
  for (const [name, list] of figures) show(name, list, reference);
} finally {
  for (const child of children) child.kill('SIGKILL');
  for (const undo of teardowns.reverse()) await undo();
}
