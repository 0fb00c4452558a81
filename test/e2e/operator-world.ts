/**
 * One lab for everything that is checked about the command line: three bare agents, the third of which
 * does not trust the issuer of the license yet, and a bare host.
 */
import { copyFileSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { arcticCommand, operatorEnvironment } from '../../ops/lab/agent.ts';
import {
  createLab,
  type ExecOptions,
  type ExecResult,
  type Lab,
  type LabAgent,
  type LabProcess,
} from '../../ops/lab/lab.ts';
import { createIssuer, eventually, type Issuer, type LicenseTerms, obtainToken } from './cluster.ts';

export interface World {
  readonly lab: Lab;
  /** Trusted on every host. */
  readonly issuer: Issuer;
  readonly agents: ReadonlyMap<string, LabAgent>;
  agent(host: string): LabAgent;
  /** Starts the agent of a host on the data that is there. */
  start(host: string): Promise<void>;
  /** Makes the agent of a host a bare one again, as the troubleshooting page does. */
  reset(host: string): Promise<void>;
  /** Starts the agent of a host again with its wall clock so many days ahead. */
  later(host: string, days: number): Promise<void>;
  /** The command line on a host, with the settings of its agent. Any exit code is a result. */
  arctic(host: string, argv: readonly string[], options?: ExecOptions): Promise<ExecResult>;
  /** A license document in a file of the lab. */
  license(name: string, terms?: LicenseTerms, issuer?: Issuer): string;
  /** A file of the lab. */
  file(name: string, text: string): string;
  /** Gives the operator of another host the credentials of the first. */
  shareConfig(from: string, to: string): void;
  /** An access token of the entry for these scopes. */
  token(scopes: string): Promise<string>;
}

/** How many services the license of the cluster allows. */
export const MOST_SERVICES = 3;

export async function createWorld(): Promise<World> {
  const lab = await createLab({ agents: ['entry', 'exit', 'third', 'bare'] });
  try {
    return await furnish(lab);
  } catch (error) {
    await lab.destroy();
    throw error;
  }
}

async function furnish(lab: Lab): Promise<World> {
  const issuer = createIssuer(join(lab.directory, 'issuer'));
  const agents = new Map<string, LabAgent>();
  const running = new Map<string, LabProcess>();
  const agent = (host: string): LabAgent => {
    const found = agents.get(host);
    if (found === undefined) throw new Error(`no agent on ${host}`);
    return found;
  };
  const file = (name: string, text: string): string => {
    const path = join(lab.directory, name);
    writeFileSync(path, text);
    return path;
  };
  const world: World = {
    lab,
    issuer,
    agents,
    agent,
    file,
    async start(host) {
      agents.set(host, await lab.startAgent(host));
    },
    async reset(host) {
      await agent(host).stop();
      rmSync(join(agent(host).dataDir, 'arctic.db'));
      await world.start(host);
    },
    async later(host, days) {
      const { dataDir, configDir, address, request, stop } = agent(host);
      await running.get(host)?.stop();
      await stop();
      const shift = `const now = Date.now; Date.now = () => now() + ${days * 86_400_000};`;
      const program = arcticCommand().filter((word) => word !== process.execPath);
      const argv = [
        process.execPath,
        `--import=data:text/javascript,${encodeURIComponent(shift)}`,
        ...program,
      ];
      running.set(
        host,
        lab.spawn(host, [...argv, 'agent'], {
          DATA_DIR: dataDir,
          CONFIG_DIR: configDir,
          ADVERTISE_ADDRESS: address,
          PARENT_INTERFACE: lab.host(host).address.name,
        }),
      );
      await eventually('it answers', async () => (await request('GET', '/livez')).status === 200);
    },
    arctic(host, argv, options = {}) {
      const { directory } = lab.host(host);
      const env = {
        ...operatorEnvironment(lab.host(host)),
        DATA_DIR: join(directory, 'data'),
        CONFIG_DIR: join(directory, 'config'),
        ...options.env,
      };
      return lab.cli(host, argv, { check: false, timeout: 90_000, cwd: lab.directory, ...options, env });
    },
    license: (name, terms, from = issuer) => file(name, JSON.stringify(from.issue(terms))),
    shareConfig(from, to) {
      const path = (host: string) => join(lab.host(host).directory, 'home', '.config', 'arctic');
      mkdirSync(path(to), { recursive: true });
      copyFileSync(join(path(from), 'config.yaml'), join(path(to), 'config.yaml'));
    },
    async token(scopes) {
      const made = await world.arctic('entry', ['credentials', 'create', '--scopes', scopes, '--json']);
      const { client_id, client_secret } = JSON.parse(made.stdout) as Record<string, string>;
      return obtainToken(agent('entry'), client_id ?? '', client_secret ?? '');
    },
  };
  await Promise.all(
    ['entry', 'exit', 'third'].map(async (name) => {
      if (name !== 'third') issuer.trustOn(join(lab.host(name).directory, 'config'));
      await world.start(name);
    }),
  );
  world.license('license.json', { maxServices: MOST_SERVICES });
  return world;
}
