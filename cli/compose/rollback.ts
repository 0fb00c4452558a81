import { EXIT } from '../../events/errors.ts';
import type { Client } from '../client.ts';
import type { Run } from '../command.ts';
import type { Context } from '../context.ts';
import { connectionFailure, Failure } from '../failure.ts';
import { asRow, isRow, type Row, show } from '../fields.ts';
import type { Input } from '../input.ts';
import { readMoment } from '../moment.ts';
import { agree, clusterIdOf, newRunId } from './apply.ts';
import type { ClusterState } from './cluster-state.ts';
import { clientOf } from './coordinator.ts';
import { reportPlan, reportRun, runSurroundings } from './outcome.ts';
import { type Group, newestGroup, UNDONE_TYPES, wantedPast } from './past.ts';
import { type Plan, planChanges } from './plan.ts';
import { renderPlan } from './plan-text.ts';
import { credentialsOf, openContacts, refuseForwarding } from './prepare.ts';
import { carryOut, type RunOutcome, readCluster } from './run.ts';
import { showWarnings } from './warnings.ts';

/** Enough for the largest group a run makes; older events are of no interest. */
const MOST_EVENTS = 1_000;

/** One agent and no other: positions are those of its log. */
async function pinned(context: Context, input: Input): Promise<Client> {
  const credentials = credentialsOf(context, input);
  const client = await context.client();
  // Whoever answers first is asked from then on.
  if (context.url === undefined) await client.get('/v1/peers', { query: { limit: 1 } });
  const base = context.url ?? client.endpoint().base;
  if (credentials === undefined) return context.clientFor(base);
  const identity = asRow(await client.get('/v1/cluster/identity', { open: true }), 'cluster identity');
  return clientOf(context, base, show(identity, 'peer_id'), show(identity, 'cluster_id'), credentials);
}

/** Which moment is to stand again, and what it is about; undefined where there is nothing to take back. */
async function target(
  client: Client,
  to: string | undefined,
): Promise<{ readonly until: string; readonly group: Group | undefined } | undefined> {
  if (to !== undefined) return { until: to, group: undefined };
  const answer = asRow(
    await client.get('/v1/events', {
      query: { type: UNDONE_TYPES.join(','), order: 'desc', limit: MOST_EVENTS },
    }),
    'events list',
  );
  const rows = Array.isArray(answer['events']) ? answer['events'].filter(isRow) : [];
  const group = newestGroup(rows);
  return group === undefined ? undefined : { until: String(group.before), group };
}

async function stateAt(client: Client, until: string): Promise<Row> {
  const parts = await Promise.all(
    ['peers', 'services', 'routes'].map(async (projection) => {
      const answer = asRow(await client.get('/v1/replay', { query: { until, projection } }), 'replay');
      return isRow(answer['state']) ? answer['state'] : {};
    }),
  );
  return Object.assign({}, ...parts);
}

export const rollback: Run = async (context, input) => {
  refuseForwarding(input);
  const given = input.text('to');
  const to = given === undefined ? undefined : readMoment(given, 'to');
  const client = await pinned(context, input);
  const moment = await target(client, to);
  const state = await readCluster(client);
  if (moment === undefined) {
    const nothing: Plan = { changes: [], warnings: [] };
    await reportPlan(
      context,
      nothing,
      'No change to take back: the log has none of peers, services or routes.\n',
      {
        clusterId: await clusterIdOf(client),
        dryRun: input.flag('dry-run'),
      },
    );
    return EXIT.success;
  }
  const past = await stateAt(client, moment.until);
  const planFor = (now: ClusterState): Plan =>
    planChanges({ ...wantedPast(past, now, moment.group?.touched), state: now, contacts: new Map() });
  const plan = planFor(state);
  const what =
    moment.group === undefined
      ? `position ${moment.until}`
      : `before the last change (${moment.group.correlationId}, ${moment.group.count} event${moment.group.count === 1 ? '' : 's'})`;
  context.terminal.note(`Back to ${what}.`);
  const dryRun = input.flag('dry-run');
  if (dryRun || plan.changes.length === 0) {
    await reportPlan(context, plan, 'No changes: everything is as it was then.\n', {
      clusterId: await clusterIdOf(client),
      dryRun,
    });
    return EXIT.success;
  }
  if (context.output.format === 'table') context.terminal.data(renderPlan(plan, context.output.style));
  showWarnings(context, input, plan.warnings);
  const silent = state.members.filter(({ unreachable }) => unreachable).map(({ name }) => `'${name}'`);
  if (silent.length > 0 && !input.flag('ignore-unreachable'))
    throw connectionFailure(
      `nothing was changed, because the cluster has no contact with ${silent.join(', ')}. --ignore-unreachable goes on without.`,
    );
  await agree(context, { plan });
  return run(context, input, client, plan, planFor, moment.until);
};

async function run(
  context: Context,
  input: Input,
  client: Client,
  plan: Plan,
  replan: (state: ClusterState) => Plan,
  until: string,
): Promise<number> {
  const began = context.clock.monotonic();
  const runId = newRunId(context);
  const surroundings = runSurroundings(context);
  const { contacts, close } = openContacts(context, input);
  const local = (await readCluster(client)).members.find(({ is_local }) => is_local)?.name ?? '';
  let outcome: RunOutcome;
  try {
    outcome = await carryOut(
      {
        runId,
        purpose: 'compose rollback',
        plan,
        replan,
        host: local,
        bases: new Map(),
        license: async () => {
          throw new Failure(EXIT.general, 'a rollback bootstraps no peers.');
        },
      },
      { client, contacts, clock: context.clock, configPath: context.configPath, ...surroundings },
    );
  } finally {
    surroundings.release();
    context.terminal.status('');
    await close();
  }
  return reportRun(context, {
    clusterId: await clusterIdOf(client).catch(() => ''),
    runId,
    plan,
    outcome,
    again: `arctic compose rollback --to ${until}`,
    seconds: (context.clock.monotonic() - began) / 1_000,
  });
}
