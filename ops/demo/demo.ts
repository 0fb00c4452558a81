/**
 * `npm run demo`: two agents form a cluster and carry a TCP connection from a client to a server, in network namespaces
 * that are removed at the end.
 *
 *   npm run demo -- --keep     leaves the lab standing and says how to enter it
 *
 * The first step that fails ends the demo with exit code 1, after the agents' last words and the cleaning up.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { arcticCommand, operatorEnvironment } from '../lab/agent.ts';
import { createLab, type Lab, ROOT } from '../lab/lab.ts';
import { keptLabs } from '../lab/namespaces.ts';
import { type DemoState, longLink } from './scene.ts';
import { STEPS } from './steps.ts';

const LOG_TAIL = 25;

function say(text = ''): void {
  process.stdout.write(`${text}\n`);
}

function seconds(since: number): string {
  return `${((performance.now() - since) / 1000).toFixed(1)} s`;
}

function quote(text: string): string {
  return /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`;
}

function explainKept(lab: Lab): void {
  say('The lab stands. To enter a host:');
  for (const { name, namespace } of lab.hosts) say(`  ${name.padEnd(7)} ip netns exec ${namespace} bash`);
  const entry = lab.host('entry');
  const configuration = `XDG_CONFIG_HOME=${operatorEnvironment(entry)['XDG_CONFIG_HOME']}`;
  const command = arcticCommand().map(quote).join(' ');
  say('As an operator on the entry:');
  say(`  ip netns exec ${entry.namespace} env ${configuration} ${command} services list`);
  say(`Logs and data: ${lab.directory}`);
  say(`To remove it:  cd ${quote(ROOT)} && node --import=tsx ops/lab/remove.ts`);
}

/** An unprivileged lab ends with the process that made its namespaces, so that one has to stay. */
async function holdUntilSignal(): Promise<void> {
  const outer = process.env['ARCTIC_OUTER_PID'];
  say(
    'Without root the lab lives only as long as this process; Ctrl-C removes it. From another terminal, first:',
  );
  say(
    `  nsenter --target $(cat /proc/${outer}/task/${outer}/children) --user --preserve-credentials --mount --net bash`,
  );
  for (;;) await sleep(60_000);
}

function lastWords(lab: Lab): void {
  for (const agent of lab.agents) {
    say(
      `\nThe last lines of the agent on ${agent.host.name} (${agent.process.running ? 'running' : 'ended'}):`,
    );
    for (const line of agent.process.output().trimEnd().split('\n').slice(-LOG_TAIL)) say(`  ${line}`);
  }
}

/** Runs every step. Returns the titles of those that succeeded and what ended it, if something did. */
async function showAll(state: DemoState): Promise<{ readonly shown: string[]; readonly failure?: string }> {
  const shown: string[] = [];
  for (const [index, step] of STEPS.entries()) {
    say(`\n[${index + 1}/${STEPS.length}] ${step.title}`);
    say(`  does    ${step.does}`);
    const begun = performance.now();
    try {
      for (const line of await step.run(state)) say(`  |       ${line}`);
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      say(`  FAILED  after ${seconds(begun)}: ${reason}`);
      return { shown, failure: `${step.title}: ${reason.split('\n')[0]}` };
    }
    say(`  proves  ${step.proves} (${seconds(begun)})`);
    shown.push(step.title);
  }
  return { shown };
}

async function main(): Promise<void> {
  const { values } = parseArgs({ options: { keep: { type: 'boolean', default: false } } });
  // What is shown is the built program, as it is installed.
  process.env['ARCTIC_LAB_RUNTIME'] ??= 'dist';
  const begun = performance.now();
  for (const { prefix } of keptLabs())
    say(`Note: an earlier lab, ${prefix}, still stands; node --import=tsx ops/lab/remove.ts`);

  say('Arctic: client -- entry == exit -- server, each a network namespace of its own.');
  const link = longLink();
  const lab = await createLab(link === undefined ? {} : { link });
  const state: DemoState = {
    lab,
    link,
    directRate: 0,
    before: 0,
    peerIds: {},
    serviceId: '',
    routeId: '',
    sha256: '',
  };
  let result: Awaited<ReturnType<typeof showAll>>;
  try {
    result = await showAll(state);
    if (result.failure !== undefined) lastWords(lab);
  } finally {
    if (!values.keep) await lab.destroy();
  }

  say('\nSummary');
  for (const title of result.shown) say(`  ok      ${title}`);
  if (result.failure !== undefined) say(`  FAILED  ${result.failure}`);
  if (!values.keep) say('  removed every process, namespace and file of the demo');
  const verdict = result.failure === undefined ? 'The demo succeeded' : 'The demo failed';
  say(`${verdict}: ${result.shown.length} of ${STEPS.length} steps in ${seconds(begun)}.`);
  process.exitCode = result.failure === undefined ? 0 : 1;

  if (values.keep) {
    say();
    explainKept(lab);
    if (process.env['ARCTIC_UNPRIVILEGED'] === '1') await holdUntilSignal();
    else lab.keep();
  }
}

await main();
