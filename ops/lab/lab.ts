/**
 * Hosts out of network namespaces: client -- entry == exit -- server, with an agent on entry, exit and any further
 * host. The demo, the end-to-end tests and the benchmarks stand on it.
 *
 * The process that makes the lab stays outside. It reaches an agent's API through a unix socket served by a relay in
 * the agent's namespace: no extra interface, so the hosts see only the topology, and no network but the lab's.
 */
import { chmodSync, existsSync, mkdirSync, mkdtempSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import {
  type AgentOptions,
  arcticCommand,
  type LabAgent,
  operatorEnvironment,
  startLabAgent,
} from './agent.ts';
import { compileTool } from './build-tools.ts';
import { type ApiClient, createApiClient } from './http.ts';
import {
  arcticNamespaces,
  ipBatch,
  namespacePath,
  removeLab,
  startTimeOf,
  sweepDeadLabs,
  writeRecord,
  writeSysctls,
} from './namespaces.ts';
import { type ExecOptions, type ExecResult, execIn, type LabProcess, spawnIn } from './process.ts';
import { type HostPlan, type LabHost, planTopology, type TopologyPlan } from './topology.ts';

export type { AgentOptions, LabAgent } from './agent.ts';
export type { ApiClient, ApiRequest, ApiResponse } from './http.ts';
export type { Ended, ExecOptions, ExecResult, LabProcess } from './process.ts';
export { CLIENT_NETWORK, type LabHost, type LabInterface, SERVER_NETWORK } from './topology.ts';

export const ROOT = dirname(dirname(dirname(fileURLToPath(import.meta.url))));

/** A long, lossy, rate-limited link in place of the wire between entry and exit; see linkemulator.c. */
export interface LinkOptions {
  readonly rateMbit: number;
  /** One way, milliseconds. */
  readonly delayMs: number;
  readonly jitterMs?: number;
  readonly lossPercent?: number;
  /** Length of the queue in milliseconds at the given rate; what exceeds it is dropped. */
  readonly queueMs?: number;
  /** Mean length of a burst of losses, in packets; 1 is independent loss. */
  readonly burst?: number;
  readonly seed?: number;
}

export interface LabOptions {
  /** Names of the agent hosts, the client's gateway first, the server's second. */
  readonly agents?: readonly string[];
  /** Only with two agents. */
  readonly link?: LinkOptions;
}

export interface Lab {
  readonly prefix: string;
  /** Removed with the lab. */
  readonly directory: string;
  readonly hosts: readonly LabHost[];
  readonly agents: readonly LabAgent[];
  host(name: string): LabHost;
  /** Runs a program to its end on a host. */
  exec(host: string, argv: readonly string[], options?: ExecOptions): Promise<ExecResult>;
  /** Starts a program on a host; it is ended with the lab. */
  spawn(host: string, argv: readonly string[], env?: Readonly<Record<string, string>>): LabProcess;
  /** Starts an agent on a host and waits until /livez answers. */
  startAgent(host: string, options?: AgentOptions): Promise<LabAgent>;
  /** Runs the `arctic` command line on a host, with an operator's configuration of the host's own. */
  cli(host: string, argv: readonly string[], options?: ExecOptions): Promise<ExecResult>;
  /** HTTP as sent from this host to an address and port it can reach (127.0.0.1 is the host itself). */
  http(host: string, address: string, port: number): Promise<ApiClient>;
  setInterface(host: string, name: string, state: 'up' | 'down'): Promise<void>;
  /** Leaves everything standing when this process ends; `ops/lab/remove.ts` takes it away. */
  keep(): void;
  /** Stops the agents, then removes processes, namespaces and directory. */
  destroy(): Promise<void>;
}

const RELAY = fileURLToPath(new URL('./relay.mjs', import.meta.url));

// Set before a link exists, so that its devices inherit them. No duplicate address detection: it would hold every new
// IPv6 address back for a second. rp_filter as a router between asymmetric links needs it.
const SYSCTLS = {
  'net.ipv6.conf.all.disable_ipv6': '0',
  'net.ipv6.conf.default.disable_ipv6': '0',
  'net.ipv6.conf.all.accept_dad': '0',
  'net.ipv6.conf.default.accept_dad': '0',
  'net.ipv4.conf.all.rp_filter': '0',
  'net.ipv4.conf.default.rp_filter': '0',
};
const FORWARDING = {
  'net.ipv4.ip_forward': '1',
  'net.ipv6.conf.all.forwarding': '1',
  'net.ipv6.conf.default.forwarding': '1',
};

let made = 0;

function freePrefix(): string {
  const taken = arcticNamespaces();
  for (;;) {
    made += 1;
    const prefix = `arctic-${process.pid}-${made}`;
    if (!taken.some((name) => name.startsWith(`${prefix}-`))) return prefix;
  }
}

async function until(what: string, limit: number, probe: () => boolean | Promise<boolean>): Promise<void> {
  const deadline = Date.now() + limit;
  while (!(await probe())) {
    if (Date.now() > deadline) throw new Error(`${what}: not within ${limit} ms`);
    await sleep(10);
  }
}

function connects(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(path);
    socket.once('connect', () => {
      socket.destroy();
      resolve(true);
    });
    socket.once('error', () => resolve(false));
  });
}

function addressing(host: HostPlan): string[] {
  return [
    'link set lo up',
    ...host.interfaces.flatMap(({ name, ipv4, ipv6 }) => [
      `link set ${name} up`,
      `address add ${ipv4}/24 dev ${name}`,
      `address add ${ipv6}/64 dev ${name} nodad`,
    ]),
    ...host.routes.map((route) => `route add ${route}`),
  ];
}

async function buildNetwork(
  plan: TopologyPlan,
  namespaceOf: (host: string) => string,
  skip?: string,
): Promise<void> {
  await ipBatch(plan.hosts.map(({ name }) => `netns add ${namespaceOf(name)}`));
  await Promise.all(
    plan.hosts.map(({ name, forwards }) =>
      writeSysctls(namespaceOf(name), { ...SYSCTLS, ...(forwards ? FORWARDING : {}) }),
    ),
  );
  const wires = plan.links.filter(({ ends }) => ends[0].name !== skip);
  await ipBatch(
    wires.map(
      ({ ends: [a, b] }) =>
        `link add ${a.name} netns ${namespaceOf(a.host)} type veth peer name ${b.name} netns ${namespaceOf(b.host)}`,
    ),
  );
}

function emulatorArguments(link: LinkOptions): string[] {
  return [
    link.rateMbit,
    link.delayMs,
    link.jitterMs ?? 0,
    link.lossPercent ?? 0,
    link.queueMs ?? 50,
    link.seed ?? 1,
    link.burst ?? 1,
  ].map(String);
}

/**
 * Makes the lab. First removes labs whose owner died. Everything is removed when this process exits or is ended by a
 * signal; after SIGKILL by the next lab.
 */
export async function createLab(options: LabOptions = {}): Promise<Lab> {
  sweepDeadLabs();
  const agentNames = options.agents ?? ['entry', 'exit'];
  const plan = planTopology(agentNames);
  if (options.link !== undefined && agentNames.length !== 2)
    throw new Error('an emulated link joins two agents');
  const emulator = options.link === undefined ? undefined : await compileTool('linkemulator');

  const prefix = freePrefix();
  const directory = mkdtempSync(join(tmpdir(), `${prefix}-`));
  chmodSync(directory, 0o755);
  const record = {
    prefix,
    directory,
    pid: process.pid,
    startTime: startTimeOf(process.pid) ?? '',
    kept: false,
  };
  writeRecord(record);

  const namespaceOf = (host: string): string => `${prefix}-${host}`;
  const hosts = plan.hosts.map((host): LabHost => {
    const [address] = host.interfaces;
    if (address === undefined) throw new Error(`${host.name} has no interface`);
    const own = join(directory, host.name);
    mkdirSync(own);
    return {
      name: host.name,
      namespace: namespaceOf(host.name),
      directory: own,
      address,
      interfaces: host.interfaces,
    };
  });

  const agents: LabAgent[] = [];
  const processes: LabProcess[] = [];
  const clients = new Map<string, Promise<ApiClient>>();
  let kept = false;
  let gone = false;

  function removeNow(): void {
    if (gone || kept) return;
    gone = true;
    removeLab(record);
  }
  const onSignal = (signal: NodeJS.Signals): void => {
    removeNow();
    forget();
    // Ends us as it would have without our handler; other handlers of this kind wait for being the last.
    process.kill(process.pid, signal);
  };
  const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;
  function forget(): void {
    process.off('exit', removeNow);
    for (const signal of signals) process.off(signal, onSignal);
  }
  process.on('exit', removeNow);
  for (const signal of signals) process.on(signal, onSignal);

  function host(name: string): LabHost {
    const found = hosts.find((one) => one.name === name);
    if (found === undefined)
      throw new Error(`no host ${name} in this lab, only ${hosts.map((one) => one.name)}`);
    return found;
  }

  const exec: Lab['exec'] = (name, argv, execOptions) =>
    execIn(host(name).namespace, argv, { cwd: ROOT, env: operatorEnvironment(host(name)), ...execOptions });

  const spawn: Lab['spawn'] = (name, argv, env = {}) => {
    const program = (argv[0] ?? '').split('/').at(-1);
    const log = join(host(name).directory, `${processes.length}-${program}.log`);
    const started = spawnIn(host(name).namespace, argv, log, {
      cwd: ROOT,
      env: { ...operatorEnvironment(host(name)), ...env },
    });
    processes.push(started);
    return started;
  };

  async function openHttp(name: string, address: string, port: number): Promise<ApiClient> {
    const path = join(host(name).directory, `${address.replaceAll(':', '_')}-${port}.sock`);
    const relay = spawn(name, [process.execPath, RELAY, path, address, String(port)]);
    await until(`relay on ${name}`, 10_000, () => {
      if (!relay.running) throw new Error(`the relay on ${name} ended:\n${relay.output()}`);
      return existsSync(path) && connects(path);
    });
    const shown = address.includes(':') ? `[${address}]` : address;
    return createApiClient(path, `http://${shown}:${port}`);
  }

  const http: Lab['http'] = (name, address, port) => {
    const key = `${name} ${address} ${port}`;
    const open = clients.get(key) ?? openHttp(name, address, port);
    clients.set(key, open);
    return open;
  };

  const lab: Lab = {
    prefix,
    directory,
    hosts,
    agents,
    host,
    exec,
    spawn,
    http,
    async startAgent(name, agentOptions = {}) {
      const agent = await startLabAgent(lab, host(name), agentOptions);
      agents.push(agent);
      return agent;
    },
    cli(name, argv, execOptions) {
      return exec(name, [...arcticCommand(), ...argv], execOptions);
    },
    async setInterface(name, device, state) {
      await ipBatch([`link set ${device} ${state}`], host(name).namespace);
    },
    keep() {
      kept = true;
      writeRecord({ ...record, kept: true });
      forget();
    },
    async destroy() {
      await Promise.all(agents.map((agent) => agent.stop().catch(() => agent.kill())));
      for (const client of await Promise.allSettled(clients.values())) {
        if (client.status === 'fulfilled') await client.value.close();
      }
      removeNow();
      forget();
      // Killed by now; waited for, so that no zombie is taken for a survivor.
      await Promise.allSettled(processes.map((one) => one.stop(5_000)));
    },
  };

  try {
    await buildNetwork(plan, namespaceOf, emulator === undefined ? undefined : 'wan0');
    if (emulator !== undefined && options.link !== undefined) {
      const [a = '', b = ''] = agentNames;
      const ends = [namespacePath(namespaceOf(a)), 'wan0', namespacePath(namespaceOf(b)), 'wan0'];
      const link = spawn('client', [emulator, ...ends, ...emulatorArguments(options.link)]);
      await until('link emulator', 5_000, () => {
        if (!link.running) throw new Error(`the link emulator ended:\n${link.output()}`);
        return link.output().includes('ready');
      });
    }
    await Promise.all(plan.hosts.map((one) => ipBatch(addressing(one), namespaceOf(one.name))));
  } catch (error) {
    await lab.destroy();
    throw error;
  }
  return lab;
}
