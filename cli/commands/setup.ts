import { randomBytes } from 'node:crypto';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { EXIT } from '../../events/errors.ts';
import { readAgentSettings, requireAgentSettings, SETTING_NAMES } from '../agent-settings.ts';
import type { Run } from '../command.ts';
import type { Context } from '../context.ts';
import { clockSynchronised, hasNetAdmin, hostFacts, installFacts, portFacts } from '../doctor/host-facts.ts';
import { report } from '../doctor/report.ts';
import { createExchange } from '../exchange.ts';
import { configurationFailure, Failure, usageFailure } from '../failure.ts';
import { type Row, show } from '../fields.ts';
import type { Input } from '../input.ts';
import { fold } from '../output.ts';
import { type Answers, clusterYaml, equivalentCommands, planLines } from '../setup/answers.ts';
import { createAsker, interrupted } from '../setup/ask.ts';
import {
  answers as agentAnswers,
  installHost,
  joinCluster,
  makeMember,
  makeService,
  peersOf,
  startAgent,
  type Work,
} from '../setup/carry-out.ts';
import { parseAddress } from '../setup/checks.ts';
import { askProof, askService, interview, type World } from '../setup/interview.ts';
import { flowCounts, judge, type Proof, speak } from '../setup/prove.ts';
import { forgetState, readState, writeState } from '../setup/state.ts';
import { systemdRuns } from '../setup/systemd.ts';
import { type Inspection, inspect } from './agent.ts';

/** The engine counts a connection when it ends; so long is waited for that. */
const COUNT_LIMIT_MS = 5_000;

/** Refuses a host on which the agent could not run, and says everything else that is worth knowing. */
async function checkHost(context: Context, running: boolean): Promise<Inspection> {
  if (process.platform !== 'linux')
    throw configurationFailure(`the agent runs on Linux only, and this is ${process.platform}.`);
  if (!hasNetAdmin())
    throw new Failure(EXIT.authentication, 'setup needs root (CAP_NET_ADMIN): sudo arctic setup');
  const read = requireAgentSettings(context.env);
  const { settings } = read;
  const inspected = await inspect({
    parentInterface: settings.parentInterface,
    ports: [settings.apiPort, settings.tproxyPort, settings.tunnelPort],
  });
  const ports = portFacts(read, running);
  const { unit: _unit, ...install } = installFacts(read);
  const { areas, findings } = report(
    {
      now: context.clock.now(),
      host: { ...hostFacts(read.dataDir), clockSynchronised: await clockSynchronised() },
      // The parent interface is asked for.
      kernel: { ...inspected.kernel, parentInterface: inspected.kernel.parentInterface ?? '' },
      settings: { fault: read.fault, file: read.file },
      // There is no unit to judge yet: making it is what setup is for.
      install: { ...install, systemd: false, unit: undefined },
      ...(ports === undefined ? {} : { ports }),
    },
    [],
    [],
  );
  const looked = areas
    .filter(({ state }) => state !== 'not checked')
    .map(({ area, state }) => `${area} ${state === 'info' ? 'ok' : state}`);
  context.terminal.note(fold(`Host: ${looked.join(', ')}.`, context.output.width));
  for (const { text, remedy, severity } of findings)
    if (severity !== 'info')
      context.terminal.note(fold(`- ${text} Fix: ${remedy}`, context.output.width, '  '));
  if (findings.some(({ severity }) => severity === 'critical'))
    throw configurationFailure(
      "this host is not ready for an agent; mend the above and run 'arctic setup' again.",
    );
  return inspected;
}

/** The settings given in the environment of this command go into arctic.env, so that the agent has them later too. */
const givenSettings = (env: Context['env']): Record<string, string> =>
  Object.fromEntries(
    SETTING_NAMES.flatMap((name) => {
      const value = env[name];
      return value && name !== 'PARENT_INTERFACE' ? [[name, value]] : [];
    }),
  );

async function metricsOf(context: Context, url: string): Promise<string> {
  const exchange = createExchange(
    { timeoutMs: 5_000, debug: false, trace: false },
    { terminal: context.terminal, clock: context.clock },
  );
  try {
    const answer = await exchange.send({ method: 'GET', base: url, path: '/metrics', headers: {} });
    return answer.status === 200 ? answer.text : '';
  } finally {
    await exchange.close();
  }
}

async function prove(context: Context, url: string, service: Row, address: string): Promise<Proof> {
  const target = parseAddress(address);
  if (target === undefined) throw new TypeError(`'${address}' was checked before`);
  const id = show(service, 'id');
  const count = async () => flowCounts(await metricsOf(context, url), id);
  const before = await count();
  context.terminal.status(`connecting to ${address} ...`);
  const spoken = await speak(target.host, target.port);
  let after = await count();
  for (let waited = 0; after.connections === before.connections && waited < COUNT_LIMIT_MS; waited += 250) {
    await sleep(250);
    after = await count();
  }
  context.terminal.status('');
  return judge(address, show(service, 'name'), before, after, spoken);
}

function chooseUnit(input: Input): boolean {
  const wanted = input.toggle('unit');
  if (wanted === true && !systemdRuns())
    throw usageFailure(
      '--unit: systemd does not run here; without it the agent is started in the background.',
    );
  return wanted ?? systemdRuns();
}

/** `* what was done`, folded under itself. */
const note = (context: Context) => (text: string) =>
  context.terminal.note(
    `${context.output.style.green('*')} ${fold(text, context.output.width, '  ').trimStart()}`,
  );

export const setup: Run = async (context, input) => {
  const read = readAgentSettings(context.env);
  const statePath = join(read.configDir, 'setup.json');
  const scheme = read.settings?.tls === undefined ? 'http' : 'https';
  const url = `${scheme}://localhost:${read.settings?.apiPort ?? 8080}`;
  const asking = context.terminal.canAsk && !input.flag('yes');
  if (!asking && !input.flag('yes'))
    throw usageFailure('setup asks on a terminal; without one, say --yes and give the answers as flags.');

  const probe = await context.clientFor(url);
  const running = await agentAnswers(probe);
  const inspected = await checkHost(context, running);
  const colours = context.output.style.bold('x') !== 'x';
  const world: World = {
    input,
    asker: asking ? await createAsker(colours) : undefined,
    interfaces: inspected.interfaces,
    parentInterface: read.settings?.parentInterface,
    configDir: read.configDir,
    rootDirectory: join(context.env['HOME'] || homedir(), 'arctic-root'),
    now: context.clock.now(),
  };
  if (input.flag('restart')) forgetState(statePath);
  const saved = readState(statePath);
  if (saved !== undefined)
    context.terminal.note(
      `Going on with the setup of ${saved.startedAt.slice(0, 16).replace('T', ' ')} UTC (--restart begins anew).`,
    );
  const startedAt = saved?.startedAt ?? new Date(context.clock.now()).toISOString();
  const save = (answers: Answers) => writeState(statePath, { startedAt, answers });

  let answers = await interview(world, saved?.answers ?? {}, save);
  const unit = chooseUnit(input);
  const bootstrapped =
    running &&
    (await probe.call('GET', '/v1/cluster/identity', { open: true, accept: [412] })).status === 200;
  if (answers.agreed === undefined) {
    context.terminal.note('\nThe plan:');
    const plan = planLines({ ...read, answers, unit, running, bootstrapped });
    for (const line of plan) context.terminal.note(fold(line, context.output.width, '  '));
    if (world.asker !== undefined && !(await world.asker.confirm('Go ahead?', true)))
      throw new Failure(
        EXIT.general,
        "nothing was changed; the answers are kept, 'arctic setup --restart' begins anew.",
      );
    answers = { ...answers, agreed: true };
    save(answers);
  }

  const did: string[] = [];
  const tell = note(context);
  const work: Work = {
    context,
    random: { bytes: (count) => new Uint8Array(randomBytes(count)), fraction: Math.random },
    url,
    configDir: read.configDir,
    dataDir: read.dataDir,
    env: {
      ...context.env,
      ...read.env,
      PARENT_INTERFACE: answers.parent,
      // The operator's, not the agent's.
      ARCTIC_TOKEN: undefined,
      ARCTIC_RECOVERY_TOKEN: undefined,
    },
    settings: givenSettings(context.env),
    unit,
    did: (text) => {
      did.push(text);
      tell(text);
    },
  };
  // Ctrl-C between two steps: what was done is done, and the state file knows the answers.
  const onInterrupt = () => {
    context.terminal.note(`\nError: ${interrupted().message}`);
    process.exit(EXIT.general);
  };
  process.on('SIGINT', onInterrupt);
  let licensePath: string;
  let client: Awaited<ReturnType<typeof makeMember>>;
  let peers: readonly Row[];
  try {
    licensePath = await installHost(work, answers);
    await startAgent(work);
    client = await makeMember(work, answers.name ?? '', licensePath);
    if (answers.join) await joinCluster(work, client, answers.join);
    peers = await peersOf(client);
  } finally {
    process.off('SIGINT', onInterrupt);
  }

  if (answers.service === undefined || input.text('dest-cidr') !== undefined) {
    const others = peers
      .filter((row) => row['is_local'] !== true)
      .map((row) => ({ id: show(row, 'id'), name: show(row, 'name') }));
    answers = { ...answers, service: await askService(world, answers.name ?? 'service', others) };
    save(answers);
  }
  let proof: Proof | undefined;
  const wanted = answers.service;
  if (wanted) {
    if (answers.prove === undefined || input.text('prove') !== undefined) {
      answers = { ...answers, prove: await askProof(world, wanted) };
      save(answers);
    }
    process.on('SIGINT', onInterrupt);
    try {
      const service = await makeService(work, client, wanted);
      if (answers.prove) proof = await prove(context, url, service, answers.prove);
    } finally {
      process.off('SIGINT', onInterrupt);
    }
  }
  if (proof !== undefined)
    context.terminal.note(
      `${proof.proved ? context.output.style.green('Proved:') : context.output.style.red('Not proved:')} ${proof.text}`,
    );

  const commands = equivalentCommands(answers, url, read.configDir, unit);
  const yaml = await clusterYaml(answers, peers, licensePath);
  if (proof?.proved !== false) forgetState(statePath);
  await context.output.either(
    {
      did,
      commands,
      cluster_yaml: yaml,
      proof: proof === undefined ? null : { proved: proof.proved, text: proof.text },
    },
    () =>
      [
        did.length === 0 ? 'Everything was done already.\n' : 'Done.\n',
        '\nThe same by hand:\n',
        ...commands.map((line) => `  ${line}\n`),
        '\nThe same as cluster.yaml:\n',
        ...yaml
          .trimEnd()
          .split('\n')
          .map((line) => `  ${line}\n`),
        ...(answers.service || peers.length > 1
          ? []
          : [
              "\nNext: run 'arctic setup' on another host and join this one, or 'arctic peers add HOST:PORT'.\n",
            ]),
      ].join(''),
  );
  return proof?.proved === false ? EXIT.partial : EXIT.success;
};
