/**
 * The lab of the TCP benchmark: two real agents with one service, their peers beside them on the same hosts, and a load
 * tool at both ends. Everything but carriers that are meant to differ uses cubic, as an ordinary host does, whatever the
 * default of the machine that runs the benchmark is.
 */
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { createCluster, eventually, type TestCluster } from '../../test/e2e/cluster.ts';
import { compileTool, preloadTool } from '../lab/build-tools.ts';
import type { LabProcess, LinkOptions } from '../lab/lab.ts';
import { haproxy, kcptun, nginx, type PeerPlan, shadowsocks } from './tcp-peers.ts';

/** One address of the server for each transport. */
const TARGETS = { tcp: '10.91.3.2', kcp: '10.91.3.4' } as const;
/** The server's second address: no service routes it, so the agents leave it alone. */
const BYPASS = '10.91.3.3';
const CUBIC_PORT = 9_000;
const BBR_PORT = 9_001;
/** USER_HZ; 100 on every Linux this runs on (proc(5)). */
const TICKS = 100;

export type Congestion = 'cubic' | 'bbr';

/** A way from client to server. */
export interface Contender {
  readonly name: string;
  readonly address: string;
  readonly port: number;
  readonly congestion: Congestion;
  /** Whose CPU time counts; empty without a proxy. */
  readonly processes: readonly LabProcess[];
}

/** One line of loadtool and the CPU seconds of both proxies meanwhile. */
export interface Outcome {
  readonly mbit: number;
  readonly operations: number;
  readonly p50: number;
  readonly p99: number;
  readonly errors: number;
  readonly least: number;
  readonly most: number;
  readonly cpuPerGigabyte: number;
  /** Milliseconds of CPU for one operation. */
  readonly cpuPerOperation: number;
}

export interface TcpLab {
  readonly contenders: readonly Contender[];
  /** `what` is as loadtool takes it behind address and port. */
  load(contender: Contender, mode: string, ...what: readonly number[]): Promise<Outcome>;
  /** Sets the bandwidth limit of Arctic's service in Mbit/s, 0 for none, and waits until both agents have applied it. */
  limit(mbit: number): Promise<void>;
  /** Bytes that Arctic has written to clients (entry) or servers (exit) so far, and when it said so, in seconds. */
  delivered(side: 'entry' | 'exit'): Promise<{ readonly bytes: number; readonly at: number }>;
  /** Event-loop delay of an agent since the last call, 99th percentile, milliseconds. */
  eventLoopDelay(side: 'entry' | 'exit'): Promise<number>;
  /** Congestion control and kind of the relays that ran, as the agents' metrics and logs tell. */
  readonly arctic: string;
  destroy(): Promise<void>;
}

const PEERS = {
  haproxy: haproxy(),
  'haproxy-64k': haproxy(65_536),
  'haproxy-bbr': haproxy(),
  kcptun,
  nginx,
  shadowsocks,
} as const;

export type PeerName = keyof typeof PEERS;

function cpuSeconds(roots: readonly number[]): number {
  const parents = new Map<number, { readonly parent: number; readonly ticks: number }>();
  for (const entry of readdirSync('/proc')) {
    if (!/^\d+$/.test(entry)) continue;
    try {
      const fields = readFileSync(`/proc/${entry}/stat`, 'utf8').split(') ').at(-1)?.split(' ') ?? [];
      parents.set(Number(entry), {
        parent: Number(fields[1]),
        ticks: Number(fields[11]) + Number(fields[12]),
      });
    } catch {
      // Ended while we looked.
    }
  }
  let ticks = 0;
  for (const [pid, { parent, ticks: own }] of parents) {
    if (roots.includes(pid) || roots.includes(parent)) ticks += own;
  }
  return ticks / TICKS;
}

export type Transport = keyof typeof TARGETS;

async function addService(cluster: TestCluster, transport: Transport): Promise<string> {
  const [entry, exit] = [cluster.member(0), cluster.member(1)];
  const created = await entry.agent.request('POST', '/v1/services', {
    token: entry.token,
    body: { name: `bench-${transport}`, target_peer_id: exit.identity.peer_id, transport_type: transport },
  });
  if (created.status !== 201) throw new Error(`service: ${created.status} ${created.text}`);
  const { id } = created.json<{ id: string }>();
  const routed = await entry.agent.request('POST', `/v1/services/${id}/routes`, {
    token: entry.token,
    body: { routes: [{ priority: 100, dest_cidr: `${TARGETS[transport]}/32` }] },
  });
  if (routed.status !== 201) throw new Error(`route: ${routed.status} ${routed.text}`);
  await untilApplied(cluster, id);
  return id;
}

/** `mbit` undefined is whatever limit it has. */
async function untilApplied(cluster: TestCluster, id: string, mbit?: number): Promise<void> {
  for (const member of [cluster.member(0), cluster.member(1)]) {
    await eventually('the service is applied', async () => {
      const answer = await member.agent.request('GET', `/v1/services/${id}`, { token: member.token });
      if (answer.status !== 200) return false;
      const { status, bandwidth_limit_mbps } = answer.json<{
        status: Record<string, { state: string }>;
        bandwidth_limit_mbps: number | null;
      }>();
      const limited = mbit === undefined || (bandwidth_limit_mbps ?? 0) === mbit;
      return limited && status['tproxy']?.state === 'applied';
    });
  }
}

/** Makes the lab with the wanted peers; `link` undefined is a clean pair of veths. */
export async function createTcpLab(
  peers: readonly PeerName[],
  link?: LinkOptions,
  transports: readonly Transport[] = ['tcp'],
): Promise<TcpLab> {
  const meters = mkdtempSync(join(tmpdir(), 'arctic-loop-meter-'));
  const [loadtool, preload] = await Promise.all([compileTool('loadtool'), preloadTool('congestion', meters)]);
  const environment = (congestion: Congestion): Record<string, string> => ({
    LD_PRELOAD: preload,
    TCP_CC: congestion,
  });
  const loopMeter = join(meters, 'p99');
  const cluster = await createCluster({
    ...(link === undefined ? {} : { link }),
    env: {
      ...environment('cubic'),
      LAB_NODE_OPTIONS: `--import=${new URL('loop-meter.mjs', import.meta.url).href}`,
      LOOP_METER: loopMeter,
    },
  });
  const { lab } = cluster;
  const contenders: Contender[] = [];
  const destroy = async (): Promise<void> => {
    await lab.destroy();
    rmSync(meters, { recursive: true, force: true });
  };

  async function load(
    { address, port, congestion, processes }: Contender,
    mode: string,
    ...what: readonly number[]
  ): Promise<Outcome> {
    const pids = processes.map(({ pid }) => pid);
    const before = cpuSeconds(pids);
    const argv = [loadtool, mode, address, String(port), ...what.map(String)];
    const { stdout } = await lab.exec('client', argv, { env: environment(congestion), timeout: 180_000 });
    const used = cpuSeconds(pids) - before;
    const said = JSON.parse(stdout) as Record<string, number>;
    const value = (key: string): number => said[key] ?? Number.NaN;
    return {
      mbit: value('mbit'),
      operations: value('ops_s'),
      p50: value('p50_us') / 1_000,
      p99: value('p99_us') / 1_000,
      errors: value('errors'),
      least: value('min_mb'),
      most: value('max_mb'),
      cpuPerGigabyte: used / (value('bytes') / 1e9),
      cpuPerOperation: (used * 1_000) / value('ops'),
    };
  }

  try {
    for (const address of [BYPASS, TARGETS.kcp]) {
      await lab.exec('server', ['ip', 'address', 'add', `${address}/24`, 'dev', 'eth0']);
    }
    // Short connections by the hundred thousand: a client's ports must not run out.
    for (const { name } of lab.hosts) {
      const settings = ['net.ipv4.ip_local_port_range=10240 60999', 'net.ipv4.tcp_tw_reuse=1'];
      await lab.exec(name, ['sysctl', '-qw', ...settings]);
    }
    for (const [port, congestion] of [
      [CUBIC_PORT, 'cubic'],
      [BBR_PORT, 'bbr'],
    ] as const) {
      const server = lab.spawn('server', [loadtool, 'serve', String(port)], environment(congestion));
      await eventually('load server', async () => server.output().includes('ready'));
    }
    contenders.push(
      { name: 'direct', address: BYPASS, port: CUBIC_PORT, congestion: 'cubic', processes: [] },
      { name: 'direct-bbr', address: BYPASS, port: BBR_PORT, congestion: 'bbr', processes: [] },
    );

    const lan = lab.host('entry').interfaces.find((one) => one.name === 'lan0')?.ipv4 ?? '';
    for (const [index, name] of peers.entries()) {
      const plan: PeerPlan = {
        name,
        listen: 7_000 + index,
        carrier: 7_100 + index,
        entry: lan,
        exit: lab.host('exit').address.ipv4,
        target: `${BYPASS}:${CUBIC_PORT}`,
      };
      const carried: Congestion = name === 'haproxy-bbr' ? 'bbr' : 'cubic';
      const processes = await PEERS[name](lab, plan, (host, argv) =>
        lab.spawn(host, argv, environment(carried)),
      );
      contenders.push({ name, address: lan, port: plan.listen, congestion: 'cubic', processes });
    }

    let service = '';
    for (const transport of transports) service = await addService(cluster, transport);
    const agents = cluster.members.map(({ agent }) => agent.process);
    if (agents.some((one) => one.output().includes('falls back to TypeScript'))) {
      throw new Error('the native relay is not built: run npm run build');
    }
    for (const transport of transports) {
      contenders.push({
        name: transport === 'tcp' ? 'arctic' : `arctic-${transport}`,
        address: TARGETS[transport],
        port: CUBIC_PORT,
        congestion: 'cubic',
        processes: agents,
      });
    }

    for (const contender of contenders) await reachable(contender, load);
    const { stdout } = await lab.exec('exit', ['ss', '-Htni', 'sport', '=', ':61000']);
    const arctic = `carriers: ${[...new Set(stdout.match(/\b(?:bbr|cubic|reno)\b/g) ?? ['none'])].join(', ')}`;
    return {
      contenders,
      load,
      arctic,
      async limit(mbit) {
        const { agent, token } = cluster.member(0);
        const body = { bandwidth_limit_mbps: mbit };
        const answer = await agent.request('PUT', `/v1/services/${service}`, { token, body });
        if (answer.status !== 200) throw new Error(`limit: ${answer.status} ${answer.text}`);
        await untilApplied(cluster, service, mbit);
      },
      async delivered(side) {
        const { agent, token } = cluster.member(side === 'entry' ? 0 : 1);
        const answer = await agent.request('GET', '/v1/traffic', { token });
        const { at, services } = answer.json<{
          at: string;
          services: { service_id: string; side: string; bytes_out: number }[];
        }>();
        const found = services.find((one) => one.service_id === service && one.side === side);
        return { bytes: found?.bytes_out ?? 0, at: Date.parse(at) / 1_000 };
      },
      async eventLoopDelay(side) {
        const { agent } = cluster.member(side === 'entry' ? 0 : 1);
        const { pid } = agent.process;
        const path = `${loopMeter}.${pid}`;
        rmSync(path, { force: true });
        process.kill(pid, 'SIGCONT');
        for (let tries = 0; !existsSync(path); tries += 1) {
          if (tries > 200) throw new Error(`${pid} does not tell the delay of its event loop`);
          await sleep(20);
        }
        return Number(readFileSync(path, 'utf8'));
      },
      destroy,
    };
  } catch (error) {
    await destroy();
    throw error;
  }
}

/** A fetch of one byte; the programs need a moment to listen. */
async function reachable(contender: Contender, load: TcpLab['load']): Promise<void> {
  for (let attempt = 0; ; attempt += 1) {
    const { errors } = await load(contender, 'get', 1, 1);
    if (errors === 0) return;
    const dead = contender.processes.find(({ running }) => !running);
    if (attempt === 20 || dead !== undefined) {
      const output = contender.processes.map((one) => one.output().slice(-2_000)).join('\n');
      throw new Error(`${contender.name} carries nothing:\n${output}`);
    }
    await sleep(250);
  }
}
