/** What a test run must not leave behind: processes, network namespaces, temporary files. */
import { readdirSync, readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { arcticNamespaces, removeNamespaces, startTimeOf, sweepDeadLabs } from '../lab/namespaces.ts';

/** Every process of a run carries this variable with the run's name, whoever started it. */
export const RUN_VARIABLE = 'ARCTIC_TEST_RUN';

// Caches of the loader and of Node, not of a test.
const CACHES = /^(tsx-|node-compile-cache|v8-compile-cache|node-coverage)/;

function processesOf(run: string): number[] {
  const mark = `${RUN_VARIABLE}=${run}`;
  return readdirSync('/proc')
    .filter((entry) => /^\d+$/.test(entry) && Number(entry) !== process.pid)
    .filter((pid) => {
      try {
        return readFileSync(`/proc/${pid}/environ`, 'utf8').split('\0').includes(mark);
      } catch {
        // Ended meanwhile, or another user's.
        return false;
      }
    })
    .map(Number)
    .filter((pid) => startTimeOf(pid) !== undefined);
}

function commandOf(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ').trim();
  } catch {
    return 'ended meanwhile';
  }
}

function orphanedNamespaces(before: ReadonlySet<string>): string[] {
  return arcticNamespaces().filter(
    (name) => !before.has(name) && startTimeOf(Number(name.split('-')[1])) === undefined,
  );
}

/**
 * Finds, names and removes what the run left. `before`: the namespaces that stood when it began; other runs' own are
 * known by their living owner. What is just ending gets two seconds for it.
 */
export async function removeLeftovers(
  run: string,
  directory: string,
  before: ReadonlySet<string>,
): Promise<string[]> {
  let processes = processesOf(run);
  for (let attempt = 0; attempt < 40 && processes.length > 0; attempt += 1) {
    await sleep(50);
    processes = processesOf(run);
  }
  const namespaces = orphanedNamespaces(before);
  const files = readdirSync(directory).filter((name) => !CACHES.test(name));
  const found = [
    ...processes.map((pid) => `process ${pid}: ${commandOf(pid)}`),
    ...namespaces.map((name) => `network namespace ${name}`),
    ...files.map((name) => `temporary file ${name}`),
  ];
  for (const pid of processes) {
    try {
      process.kill(pid, 'SIGKILL');
    } catch {
      // Ended meanwhile.
    }
  }
  sweepDeadLabs();
  removeNamespaces(namespaces);
  return found;
}
