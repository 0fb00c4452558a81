import { systemRandom } from '../../events/clock.ts';
import { EXIT } from '../../events/errors.ts';
import { createIds, newCorrelationId } from '../../events/ids.ts';
import type { Client } from '../client.ts';
import type { Run } from '../command.ts';
import type { Context } from '../context.ts';
import { configurationFailure, Failure } from '../failure.ts';
import { asRow, type Row, show, textOf } from '../fields.ts';
import type { Input } from '../input.ts';
import { rememberNames } from '../known-names.ts';
import { type Coordinator, clientOf } from './coordinator.ts';
import { type Credentials, writeCredentials } from './credentials-file.ts';
import { freeOwnLock } from './lease.ts';
import { reportPlan, reportRun, runSurroundings } from './outcome.ts';
import { renderPlan } from './plan-text.ts';
import { checkFeasible, type Prepared, prepare } from './prepare.ts';
import { carryOut, type RunOutcome, readCluster } from './run.ts';
import { clusterEntry, rememberCluster, saveCluster } from './save.ts';
import { showWarnings } from './warnings.ts';

export const newRunId = (context: Context): string =>
  newCorrelationId(createIds({ clock: context.clock, random: systemRandom }));

export const clusterIdOf = async (client: Client): Promise<string> =>
  show(asRow(await client.get('/v1/cluster/identity', { open: true }), 'cluster identity'), 'cluster_id');

/** Asks before anything is changed; the plan has been shown. */
export async function agree(context: Context, prepared: Pick<Prepared, 'plan'>): Promise<void> {
  const count = prepared.plan.changes.length;
  await context.confirm(count === 1 ? 'Make this change?' : `Make these ${count} changes?`);
}

export const apply: Run = async (context, input) => {
  const prepared = await prepare(context, input, input.text('license-file'));
  try {
    return await applyPrepared(context, input, prepared);
  } finally {
    await prepared.close();
  }
};

async function applyPrepared(context: Context, input: Input, prepared: Prepared): Promise<number> {
  const { plan, path, coordinator } = prepared;
  const dryRun = input.flag('dry-run');
  if (dryRun || plan.changes.length === 0) {
    const clusterId = coordinator.kind === 'member' ? await clusterIdOf(coordinator.client) : null;
    const same = `No changes: the cluster is as ${path} says.\n`;
    await reportPlan(context, plan, same, { clusterId, dryRun });
    showWarnings(context, input, plan.warnings);
    // A run that was killed after its last change left only its lock.
    if (!dryRun && coordinator.kind === 'member') await freeOwnLock(lockDeps(context, coordinator.client));
    if (!dryRun && coordinator.kind === 'member' && input.flag('save-config'))
      await remember(context, input, coordinator.client, coordinator.base, prepared.credentials);
    return EXIT.success;
  }
  if (context.output.format === 'table') context.terminal.data(renderPlan(plan, context.output.style));
  showWarnings(context, input, plan.warnings);
  await checkFeasible(prepared);
  await agree(context, prepared);

  const began = context.clock.monotonic();
  const runId = newRunId(context);
  const started = await startCluster(context, input, prepared, runId);
  const surroundings = runSurroundings(context);
  let outcome: RunOutcome;
  try {
    outcome = await carryOut(
      {
        runId,
        purpose: `compose apply ${path}`,
        plan,
        replan: prepared.replan,
        host: started.host,
        bases: new Map([...prepared.asked].map(([name, { base }]) => [name, base])),
        license: prepared.license,
      },
      {
        client: started.client,
        contacts: prepared.contacts,
        clock: context.clock,
        configPath: context.configPath,
        ...surroundings,
      },
    );
  } finally {
    surroundings.release();
    context.terminal.status('');
  }
  outcome = { ...outcome, steps: [...started.steps, ...outcome.steps] };
  // Whatever became of it: the members there are now can be asked from now on.
  await remember(context, input, started.client, started.base, started.credentials).catch(
    (error: unknown) => {
      context.terminal.note(`Note: ${error instanceof Error ? error.message : String(error)}`);
    },
  );
  return reportRun(context, {
    clusterId: await clusterIdOf(started.client).catch(() => ''),
    runId,
    plan,
    outcome,
    again: `arctic compose apply ${path}`,
    seconds: (context.clock.monotonic() - began) / 1_000,
  });
}

const lockDeps = (context: Context, client: Client) => ({
  client,
  clock: context.clock,
  configPath: context.configPath,
  note: (text: string) => context.terminal.note(text),
});

interface Started {
  readonly client: Client;
  readonly base: string;
  readonly credentials: Credentials | undefined;
  /** Name in the file of the peer that was bootstrapped to ask it; otherwise of nobody. */
  readonly host: string;
  readonly steps: RunOutcome['steps'];
}

/** The agent that is asked, bootstrapped where there is no cluster yet. Its credentials are safe before anything else is done. */
async function startCluster(
  context: Context,
  input: Input,
  prepared: Prepared,
  runId: string,
): Promise<Started> {
  const { coordinator, credentials } = prepared;
  if (coordinator.kind === 'member')
    return { ...coordinator, credentials, host: hostName(prepared, coordinator), steps: [] };
  const { base, peer } = coordinator;
  const license = await prepared.license();
  const file = input.text('credentials-file');
  // Before anything is changed: credentials that cannot be kept would be lost.
  if (file === undefined) await context.changeConfig((current) => current);
  const answer = await prepared.contacts.bootstrap(base, license, peer.name, runId);
  if (answer === undefined)
    throw new Failure(
      EXIT.general,
      `'${peer.name}' (${peer.address}) was bootstrapped by somebody else in the meantime; run the command again.`,
    );
  const facts = factsOf(answer);
  const entry = clusterEntry(
    { clusterId: facts.clusterId, customerId: textOf(license, 'customer_id') ?? '', name: peer.name },
    facts.credentials,
    [{ peerId: facts.peerId, name: peer.name, endpoints: [base] }],
    facts.peerId,
  );
  try {
    if (file !== undefined) writeCredentials(file, { cluster_id: facts.clusterId, ...facts.credentials });
    if (file === undefined || input.flag('save-config')) await saveCluster(context, entry, true);
  } catch (error) {
    throw configurationFailure(
      `'${peer.name}' was bootstrapped (cluster ${facts.clusterId}), but its credentials could not be saved: ` +
        `${error instanceof Error ? error.message : String(error)} Create new ones with its recovery token: arctic credentials create --url ${base} --recovery-token-file /etc/arctic/recovery.token`,
    );
  }
  const kept = file ?? context.configPath;
  context.terminal.note(`  done  bootstrap ${peer.name} (${peer.address}); its credentials are in ${kept}`);
  const client = await clientOf(context, base, facts.peerId, facts.clusterId, facts.credentials);
  return {
    client,
    base,
    credentials: facts.credentials,
    host: peer.name,
    steps: [{ step: `bootstrap ${peer.name} (${peer.address})`, state: 'done' }],
  };
}

/** The peer of the file that is asked: the one with its id or, where it goes by another address, by its name in the cluster. */
function hostName(prepared: Prepared, coordinator: Extract<Coordinator, { kind: 'member' }>): string {
  const named = [...prepared.asked].find(
    ([, { contact }]) => contact.kind === 'bootstrapped' && contact.peerId === coordinator.peerId,
  )?.[0];
  return named ?? prepared.state.members.find(({ is_local }) => is_local)?.name ?? '';
}

function factsOf(answer: Row) {
  const field = (name: string): string => {
    const value = textOf(answer, name);
    if (value === undefined)
      throw new Failure(EXIT.general, `the agent was bootstrapped, but its answer has no ${name}.`);
    return value;
  };
  return {
    clusterId: field('cluster_id'),
    peerId: field('peer_id'),
    credentials: { client_id: field('client_id'), client_secret: field('client_secret') },
  };
}

async function remember(
  context: Context,
  input: Input,
  client: Client,
  base: string,
  credentials: Credentials | undefined,
): Promise<void> {
  const { members, services } = await readCluster(client);
  rememberNames(
    context.configPath,
    'peer',
    members.map(({ name }) => name),
  );
  rememberNames(
    context.configPath,
    'service',
    services.map(({ name }) => name),
  );
  const save = input.flag('save-config');
  await rememberCluster(context, client, members, { credentials, save, base });
}
