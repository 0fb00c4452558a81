import { join } from 'node:path';
import type { Lab } from '../../ops/lab/lab.ts';
import type { TestCluster } from './cluster.ts';

/** An operator on a host: the command line with the settings and credentials of that host's agent. */
export function operator(cluster: TestCluster, index: number) {
  const { lab } = cluster;
  const { agent, token } = cluster.member(index);
  const env = {
    ...Object.fromEntries(
      Object.entries(process.env).filter(([name]) => name === 'PATH' || name === 'ARCTIC_TEST_RUN'),
    ),
    HOME: join(agent.host.directory, 'home'),
    XDG_CONFIG_HOME: join(agent.host.directory, 'home', '.config'),
    TMPDIR: agent.host.directory,
    NO_COLOR: '1',
    DATA_DIR: agent.dataDir,
    CONFIG_DIR: agent.configDir,
    ARCTIC_TOKEN: token,
  };
  return (...argv: string[]): ReturnType<Lab['cli']> =>
    lab.cli(agent.host.name, argv, { env, check: false, timeout: 60_000 });
}
