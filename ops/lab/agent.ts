/** An agent on a lab host, and what an operator has at hand there. */
import { mkdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import type { ApiClient, ApiRequest, ApiResponse } from './http.ts';
import type { Ended, LabProcess } from './process.ts';
import type { LabHost } from './topology.ts';

const ROOT = dirname(dirname(dirname(fileURLToPath(import.meta.url))));

export interface AgentOptions {
  /** 8080 by default. */
  readonly apiPort?: number;
  /** `<host>/data` and `<host>/config` in the lab's directory by default; they outlive the agent, not the lab. */
  readonly dataDir?: string;
  readonly configDir?: string;
  /** Settings beside or instead of the lab's own; undefined takes one away. An empty PATH is the agent's alone. */
  readonly env?: Readonly<Record<string, string | undefined>>;
  /** Another `arctic` than that of this tree: an older build, or next-release.ts. */
  readonly program?: readonly string[];
  /** False: return as soon as the process runs, for starts that are meant to fail. */
  readonly wait?: boolean;
}

export interface LabAgent {
  readonly host: LabHost;
  readonly process: LabProcess;
  readonly dataDir: string;
  readonly configDir: string;
  readonly apiPort: number;
  /** The API as the host itself sees it. */
  readonly url: string;
  /** host:port that other peers reach it by. */
  readonly address: string;
  /** One API request, sent from the agent's own host over loopback. */
  request(method: string, path: string, options?: ApiRequest): Promise<ApiResponse>;
  /** The connections that `request` uses, for streams. */
  client(): Promise<ApiClient>;
  stop(): Promise<Ended>;
  /** SIGKILL by default, as a crash would. */
  kill(signal?: NodeJS.Signals): void;
}

/**
 * The command that is `arctic`: the sources through tsx, or with ARCTIC_LAB_RUNTIME=dist the built program, as the
 * test runner and the demo set it after building.
 */
export function arcticCommand(): string[] {
  if (process.env['ARCTIC_LAB_RUNTIME'] === 'dist') return [join(ROOT, 'dist', 'cli', 'main.js')];
  return [process.execPath, `--import=${import.meta.resolve('tsx')}`, '--', join(ROOT, 'cli', 'main.ts')];
}

/** A small environment of the host's own: nothing of the caller's settings or secrets gets in. */
export function operatorEnvironment(host: LabHost): Record<string, string> {
  const home = join(host.directory, 'home');
  mkdirSync(home, { recursive: true });
  const path = [
    dirname(process.execPath),
    '/usr/local/sbin',
    '/usr/local/bin',
    '/usr/sbin',
    '/usr/bin',
    '/sbin',
    '/bin',
  ];
  const run = process.env['ARCTIC_TEST_RUN'];
  return {
    PATH: path.join(':'),
    HOME: home,
    XDG_CONFIG_HOME: join(home, '.config'),
    TMPDIR: host.directory,
    NO_COLOR: '1',
    ...(run === undefined ? {} : { ARCTIC_TEST_RUN: run }),
  };
}

/** Without a PATH neither `nsenter` nor the `env` of a first line is found: the one is left it, the other not needed. */
function agentCommand(env: Record<string, string>, program = arcticCommand()): string[] {
  const command = [...program, 'agent'];
  if (env['PATH'] !== '') return command;
  delete env['PATH'];
  return ['env', 'PATH=', ...(command[0] === process.execPath ? command : [process.execPath, ...command])];
}

/** What starting an agent takes of the lab. */
interface HostAccess {
  spawn(host: string, argv: readonly string[], env: Readonly<Record<string, string>>): LabProcess;
  http(host: string, address: string, port: number): Promise<ApiClient>;
}

/** Starts an agent and waits for /livez. Rejects with the end of its log when it ends first or takes over 30 s. */
export async function startLabAgent(
  lab: HostAccess,
  host: LabHost,
  options: AgentOptions,
): Promise<LabAgent> {
  const apiPort = options.apiPort ?? 8080;
  const dataDir = options.dataDir ?? join(host.directory, 'data');
  const configDir = options.configDir ?? join(host.directory, 'config');
  for (const directory of [dataDir, configDir]) mkdirSync(directory, { recursive: true, mode: 0o700 });
  const address = `${host.address.ipv4}:${apiPort}`;
  const settings: Record<string, string | undefined> = {
    API_PORT: String(apiPort),
    DATA_DIR: dataDir,
    CONFIG_DIR: configDir,
    ADVERTISE_ADDRESS: address,
    PARENT_INTERFACE: host.address.name,
    ...options.env,
  };
  const env = Object.fromEntries(
    Object.entries(settings).filter((entry): entry is [string, string] => entry[1] !== undefined),
  );
  const process = lab.spawn(host.name, agentCommand(env, options.program && [...options.program]), env);

  const agent: LabAgent = {
    host,
    process,
    dataDir,
    configDir,
    apiPort,
    url: `http://127.0.0.1:${apiPort}`,
    address,
    request: async (method, path, request) =>
      (await lab.http(host.name, '127.0.0.1', apiPort)).request(method, path, request),
    client: () => lab.http(host.name, '127.0.0.1', apiPort),
    stop: () => process.stop(),
    kill: (signal) => process.kill(signal),
  };
  if (options.wait === false) return agent;

  const deadline = Date.now() + 30_000;
  for (;;) {
    const alive = await agent.request('GET', '/livez', { timeout: 2_000 }).catch(() => undefined);
    if (alive?.status === 200) return agent;
    const end = process.running
      ? Date.now() > deadline
        ? 'did not answer /livez in 30 s'
        : undefined
      : 'ended';
    if (end !== undefined) {
      process.kill();
      throw new Error(
        `the agent on ${host.name} ${end}; the end of ${process.log}:\n${process.output().slice(-4000)}`,
      );
    }
    await sleep(20);
  }
}
