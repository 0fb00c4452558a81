import type { Clock } from '../../events/clock.ts';
import type { Client } from '../client.ts';
import { type Failure, toFailure } from '../failure.ts';
import type { Row } from '../fields.ts';
import { awaitApplied, type PeerProgress } from './await-applied.ts';
import { type ClusterState, type MemberState, readState } from './cluster-state.ts';
import type { Contacts } from './contact.ts';
import { takeLease } from './lease.ts';
import { patiently } from './patience.ts';
import { createPerformer, type Performer, stepAtFault } from './perform.ts';
import type { Plan } from './plan.ts';
import { type ChangeStep, describeStep, type Step, stepsOf, transactionsOf } from './steps.ts';

/** What became of each step of a run. */
export interface StepOutcome {
  readonly step: string;
  readonly state: 'done' | 'failed' | 'not tried';
}

export interface RunOutcome {
  readonly steps: readonly StepOutcome[];
  /** Why it ended before its end. */
  readonly failure: Failure | undefined;
  readonly peers: readonly PeerProgress[];
}

export interface RunRequest {
  readonly runId: string;
  readonly purpose: string;
  /** As it was shown and agreed to. */
  readonly plan: Plan;
  /** Plans again on what is there once all peers have joined; it may remove nothing that `plan` does not. */
  readonly replan: (state: ClusterState) => Plan;
  /** Name in the file of the peer that is asked. */
  readonly host: string;
  readonly bases: ReadonlyMap<string, string>;
  readonly license: () => Promise<Row>;
}

export interface RunDeps {
  readonly client: Client;
  readonly contacts: Contacts;
  readonly clock: Clock;
  readonly configPath: string;
  readonly note: (text: string) => void;
  readonly working: (step: string) => void;
  readonly progress: (peers: readonly PeerProgress[]) => void;
  /** A person wants to stop: nothing new is begun. */
  readonly stopped: () => boolean;
}

export const readCluster = async (client: Client): Promise<ClusterState> =>
  readState(await client.list('/v1/peers', 'peers'), await client.list('/v1/services', 'services'));

const isChange = (step: Step): step is ChangeStep =>
  step.kind !== 'bootstrap' && step.kind !== 'join' && step.kind !== 'close api';

/** What is done in one go: arrivals and the closing of APIs one by one, changes in transactions. */
const partsOf = (steps: readonly Step[]): readonly (readonly Step[])[] =>
  steps.every(isChange) ? transactionsOf(steps) : steps.map((step) => [step]);

const isArrival = (step: Step): boolean => step.kind === 'bootstrap' || step.kind === 'join';

/**
 * Carries a plan out: takes the lock, brings the peers in, makes the changes, waits until they are applied, gives the lock
 * back. A failure ends it with an account; what is done stays done, and the same command goes on from there, because every
 * run begins with what is there.
 * @throws Refusal CLUSTER_LOCKED, before anything is changed
 */
export async function carryOut(request: RunRequest, deps: RunDeps): Promise<RunOutcome> {
  const { client, clock, note } = deps;
  const before = await readCluster(client);
  const lease = await takeLease(
    { runId: request.runId, purpose: request.purpose, members: before.members },
    { client, clock, configPath: deps.configPath, note },
  );
  const outcomes: { step: string; state: StepOutcome['state'] }[] = [];
  let peers: readonly PeerProgress[] = [];
  let failure: Failure | undefined;
  try {
    failure = await performAll(stepsOf(request.plan, request.host).filter(isArrival), before, outcomes);
    if (failure === undefined) {
      const arrived = await readPatiently();
      const plan = request.replan(arrived);
      const steps = stepsOf(plan, request.host).filter((step) => !isArrival(step));
      const closing = steps.filter((step) => step.kind === 'close api');
      failure = await performAll(
        steps.filter((step) => step.kind !== 'close api'),
        arrived,
        outcomes,
      );
      // Asked while everybody can still be asked.
      if (failure === undefined) peers = await settle(plan, arrived);
      if (failure === undefined) failure = await performAll(closing, await readPatiently(), outcomes);
    }
  } catch (error) {
    failure ??= toFailure(error);
  } finally {
    const giveBack = () => lease.release();
    await (failure === undefined ? patiently(clock, giveBack) : giveBack()).catch((error: unknown) => {
      note(`Note: the cluster lock could not be given back (${toFailure(error).message}) It ends by itself.`);
    });
  }
  return { steps: outcomes, failure, peers };

  function readPatiently(): Promise<ClusterState> {
    return patiently(clock, () => readCluster(client));
  }

  async function performAll(
    steps: readonly Step[],
    state: ClusterState,
    account: typeof outcomes,
  ): Promise<Failure | undefined> {
    const performer = createPerformer(
      { runId: request.runId, state, bases: request.bases, license: request.license },
      { client, lease, contacts: deps.contacts, clock, note },
    );
    const rows = steps.map((step) => ({
      step: describeStep(step),
      state: 'not tried' as StepOutcome['state'],
    }));
    account.push(...rows);
    let at = 0;
    for (const part of partsOf(steps)) {
      const own = rows.slice(at, at + part.length);
      at += part.length;
      if (deps.stopped()) return toFailure(new Error('stopped by you'));
      deps.working(own.length === 1 ? (own[0]?.step ?? '') : `${own.length} changes in one transaction`);
      try {
        await performPart(performer, part);
        for (const row of own) {
          row.state = 'done';
          note(`  done  ${row.step}`);
        }
      } catch (error) {
        const row = own[stepAtFault(error) ?? 0];
        if (row !== undefined) row.state = 'failed';
        note(`  FAILED  ${row?.step ?? ''}`);
        const others = own.length - 1;
        if (others > 0)
          note(`  (and so none of the ${others} change${others === 1 ? '' : 's'} that go with it)`);
        return toFailure(error);
      }
    }
    return undefined;
  }

  async function performPart(performer: Performer, part: readonly Step[]): Promise<void> {
    const changes = part.filter(isChange);
    if (changes.length > 0) return performer.performTogether(changes);
    for (const step of part) {
      if (isChange(step)) continue;
      await performer.perform(step);
      // A cluster that is merged in may have counted its locks further than this one.
      if (step.kind === 'join') await lease.renew();
    }
  }

  async function settle(plan: Plan, arrived: ClusterState): Promise<readonly PeerProgress[]> {
    const now = await readPatiently();
    const { touchedPeers, touchedServices } = touchedBy([request.plan, plan], arrived, now);
    const asked = touchedPeers.filter((member) => !member.unreachable);
    if (asked.length === 0) return [];
    return awaitApplied(
      { peers: asked, touched: touchedServices },
      { client, clock, progress: deps.progress, keepLease: () => patiently(clock, () => lease.headers()) },
    );
  }
}

/** Which peers and services a plan has touched: both ends of a service, before and after. */
function touchedBy(plans: readonly Plan[], before: ClusterState, now: ClusterState) {
  const peers = new Set<string>();
  const services = new Set<string>();
  const endsOf = (service: { readonly source_peer: string; readonly target_peer: string }) => {
    peers.add(service.source_peer);
    peers.add(service.target_peer);
  };
  const idOf = (name: string) => now.services.find((service) => service.name === name)?.id;
  for (const change of plans.flatMap((plan) => plan.changes)) {
    if (change.kind === 'peer') {
      const after =
        change.action === 'change' ? change.fields.find(({ field }) => field === 'name')?.after : undefined;
      peers.add(typeof after === 'string' ? after : change.name);
      continue;
    }
    if (change.action === 'remove') {
      services.add(change.service.id);
      endsOf(change.service);
      continue;
    }
    const after = change.action === 'add' ? change.service : change.after;
    endsOf(after);
    if (change.action === 'change') endsOf(change.before);
    const id = change.action === 'change' ? change.before.id : idOf(after.name);
    if (id !== undefined) services.add(id);
  }
  const known = new Map<string, MemberState>();
  for (const member of [...before.members, ...now.members]) known.set(member.id, member);
  return {
    touchedPeers: [...known.values()].filter(({ name }) => peers.has(name)),
    touchedServices: [...services],
  };
}
