/**
 * How long a person waits for the command line itself: start of `arctic version` and of commands that ask an agent, and
 * completion in each shell that is installed, each beside `node -e 0` and an empty shell. Bars: 150 ms and 100 ms.
 *
 *   node --import=tsx ops/bench/cli.ts [runs]
 */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { completionScript, type Shell } from '../../cli/completion-script.ts';
import { rememberNames } from '../../cli/known-names.ts';
import { GROUPS } from '../../cli/table.ts';
import { ROOT } from '../lab/lab.ts';
import { describeMachine } from './machine.ts';
import { median, spread } from './statistics.ts';

const RUNS = Number(process.argv[2] ?? 15);
const MAIN = join(ROOT, 'dist', 'cli', 'main.js');
/** Peers and services that completion chooses from. */
const NAMES = 1_000;

/** Answers every GET with an empty page, in a thread of its own, since this one waits for the programs it starts. */
const SERVER = `
const { createServer } = require('node:http');
const server = createServer((_, answer) => {
  answer.setHeader('content-type', 'application/json');
  answer.end('{"peers":[],"services":[],"next_cursor":null}');
});
server.listen(0, '127.0.0.1', () => require('node:worker_threads').parentPort.postMessage(server.address().port));
`;

const directory = mkdtempSync(join(tmpdir(), 'arctic-bench-cli-'));
const environment = {
  PATH: process.env['PATH'] ?? '',
  HOME: directory,
  XDG_CONFIG_HOME: directory,
  ARCTIC_TOKEN: 'x',
};

/** Wall-clock milliseconds of each of several runs, after one that warms the file cache. */
function time(program: string, argv: readonly string[]): number[] {
  const once = (): number => {
    const began = performance.now();
    const { status, stderr } = spawnSync(program, argv, { env: environment });
    if (status !== 0) throw new Error(`${program} ${argv.join(' ')}: ${status}\n${stderr}`);
    return performance.now() - began;
  };
  once();
  return Array.from({ length: RUNS }, once);
}

function report(name: string, values: readonly number[], reference: readonly number[], bar?: number): void {
  const ratio = (median(values) / median(reference)).toFixed(2);
  const verdict = bar === undefined ? '' : `, bar ${bar} ms`;
  console.log(`${name.padEnd(34)} ${spread(values)} ms, ${ratio} x the reference${verdict}`);
}

const LINES: Readonly<Record<Shell, (file: string) => readonly string[]>> = {
  bash: (file) => [
    '--norc',
    '-c',
    `source ${file}; COMP_WORDS=(arctic peers get ''); COMP_CWORD=3; _arctic; echo "\${#COMPREPLY[@]}"`,
  ],
  zsh: (file) => [
    '-f',
    '-c',
    `source ${file}; line=(arctic peers get ''); current=3; partial=''; previous=get; offer=''; files=''; _arctic_resolve`,
  ],
  fish: (file) => ['--no-config', '-c', `source ${file}; complete -C 'arctic peers get ' >/dev/null`],
};

const worker = new Worker(SERVER, { eval: true });
try {
  const port = await new Promise<number>((resolve) => worker.once('message', resolve));
  console.log(describeMachine());
  console.log(`median (smallest-largest) of ${RUNS} runs`);
  const node = time(process.execPath, ['-e', '0']);
  console.log(`${'node -e 0'.padEnd(34)} ${spread(node)} ms, the reference`);
  report('arctic version', time(process.execPath, [MAIN, 'version']), node, 150);
  report('arctic help', time(process.execPath, [MAIN, 'help']), node);
  const url = `http://127.0.0.1:${port}`;
  for (const noun of ['peers', 'services'])
    report(
      `arctic ${noun} list (agent at once)`,
      time(process.execPath, [MAIN, noun, 'list', '--url', url]),
      node,
    );

  const names = Array.from({ length: NAMES }, (_, at) => `peer-${at}`);
  rememberNames(join(directory, 'arctic', 'config.yaml'), 'peer', names);
  for (const shell of ['bash', 'zsh', 'fish'] as const) {
    if (spawnSync(shell, ['-c', 'true']).status !== 0) {
      console.log(`${shell}: not installed`);
      continue;
    }
    const file = join(directory, `arctic.${shell}`);
    writeFileSync(file, completionScript(shell, GROUPS));
    const empty = time(shell, ['-c', 'true']);
    report(`completion in ${shell}, ${NAMES} names`, time(shell, LINES[shell](file)), empty, 100);
  }
} finally {
  await worker.terminate();
  rmSync(directory, { recursive: true, force: true });
}
