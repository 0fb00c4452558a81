/** A bare lab and people who run `arctic setup` in it. */
import { join } from 'node:path';
import type { Test } from 'tap';
import { arcticCommand, operatorEnvironment } from '../../ops/lab/agent.ts';
import { createLab, type Lab, ROOT } from '../../ops/lab/lab.ts';
import { namespacePath } from '../../ops/lab/namespaces.ts';
import { type Person, sit } from './terminal.ts';

export interface Host {
  readonly directory: string;
  readonly configDir: string;
  readonly statePath: string;
  readonly env: Readonly<Record<string, string>>;
  /** A person who starts `arctic setup` there. */
  setup(...flags: string[]): Person;
}

function hostOf(t: Test, lab: Lab, name: string, directory = lab.host(name).directory): Host {
  const host = lab.host(name);
  const env = {
    ...operatorEnvironment(host),
    DATA_DIR: join(directory, 'data'),
    CONFIG_DIR: join(directory, 'config'),
    ADVERTISE_ADDRESS: `${host.address.ipv4}:8080`,
  };
  return {
    directory,
    configDir: env.CONFIG_DIR,
    statePath: join(env.CONFIG_DIR, 'setup.json'),
    env,
    setup(...flags) {
      const argv = [...arcticCommand(), 'setup', '--no-unit', ...flags];
      const person = sit(namespacePath(host.namespace), argv, env, ROOT);
      t.teardown(() => person.end());
      return person;
    },
  };
}

/** @param place directory of the entry's files, instead of one in the lab's own */
export async function bareHosts(t: Test, place?: string): Promise<{ lab: Lab; entry: Host; exit: Host }> {
  const lab = await createLab();
  t.teardown(() => lab.destroy());
  return { lab, entry: hostOf(t, lab, 'entry', place), exit: hostOf(t, lab, 'exit') };
}
