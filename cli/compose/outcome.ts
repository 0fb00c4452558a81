import { EXIT } from '../../events/errors.ts';
import type { Context } from '../context.ts';
import { Failure } from '../failure.ts';
import { paintStatus } from '../service-status.ts';
import type { PeerProgress } from './await-applied.ts';
import type { Plan } from './plan.ts';
import { countsOf, planData, renderPlan } from './plan-text.ts';
import type { RunDeps, RunOutcome } from './run.ts';

/** One line a peer: what each of its reconcilers says. */
function progressLine(context: Context, width: number, one: PeerProgress): string {
  const { style } = context.output;
  const states = one.reconcilers.map(({ reconciler, state }) => `${reconciler} ${paintStatus(state, style)}`);
  const text = one.received ? states.join(', ') || 'received' : 'waiting for the changes';
  return `  ${one.peer.padEnd(width)}  ${text}${one.note === '' ? '' : ` (${one.note.replace(/\.$/, '')})`}`;
}

/** How a run shows itself: a line a step, and one status line that follows the reconcilers of every peer. */
export function runSurroundings(context: Context): Pick<
  RunDeps,
  'note' | 'working' | 'progress' | 'stopped'
> & {
  /** Ctrl-C ends the run after the step it is in; a second one ends it at once. */
  readonly release: () => void;
} {
  const { terminal } = context;
  let asked = false;
  const onSignal = () => {
    if (asked) process.exit(130);
    asked = true;
    terminal.note('Stopping after this step; press Ctrl-C again to stop at once.');
  };
  process.on('SIGINT', onSignal);
  const shown = new Set<string>();
  return {
    note: (text) => terminal.note(text),
    working: (step) => terminal.status(`  ...   ${step}`),
    progress(peers) {
      const width = Math.max(...peers.map(({ peer }) => peer.length));
      const waiting = peers.filter(({ settled }) => !settled);
      // A peer gets its line when it is through; before that it is part of the status line.
      for (const one of peers) {
        if (!one.settled || shown.has(one.peer)) continue;
        if (shown.size === 0) terminal.note('Applied, reconciler by reconciler:');
        shown.add(one.peer);
        terminal.note(progressLine(context, width, one));
      }
      terminal.status(
        waiting
          .map(({ peer, received, reconcilers, note }) => {
            const open = reconcilers.filter(({ state }) => state !== 'applied');
            const what = received
              ? open.map(({ reconciler, state }) => `${reconciler} ${state}`).join(' ')
              : note;
            return `${peer}: ${what || 'asking'}`;
          })
          .join(' | '),
      );
    },
    stopped: () => asked,
    release: () => void process.off('SIGINT', onSignal),
  };
}

export interface Report {
  readonly clusterId: string;
  readonly runId: string;
  readonly plan: Plan;
  readonly outcome: RunOutcome;
  /** The command that goes on after a failure. */
  readonly again: string;
  readonly seconds: number;
}

const dataOf = ({ clusterId, runId, plan, outcome }: Report) => ({
  changed: outcome.steps.some(({ state }) => state === 'done'),
  dry_run: false,
  cluster_id: clusterId,
  correlation_id: runId,
  plan: planData(plan),
  steps: outcome.steps,
  peers: outcome.peers.map(({ peer, received, reconcilers, note, failed }) => ({
    peer,
    received,
    applied: !failed,
    note,
    reconcilers,
  })),
  error: outcome.failure?.message ?? null,
});

/**
 * What became of a run, for people and machines. @returns the exit code
 * @throws Failure: the fault itself where nothing was changed, else partial failure with an account
 */
export async function reportRun(context: Context, report: Report): Promise<number> {
  const { outcome, plan } = report;
  const { add, change, remove } = countsOf(plan);
  const bad = outcome.peers.filter(({ failed }) => failed);
  const complete = outcome.failure === undefined && bad.length === 0;
  const done = outcome.steps.filter(({ state }) => state === 'done').length;
  if (complete || context.output.format !== 'table')
    await context.output.either(
      dataOf(report),
      () =>
        `Applied in ${report.seconds.toFixed(1)} s: ${add} added, ${change} changed, ${remove} removed.\n`,
    );
  if (complete) return EXIT.success;
  const { failure } = outcome;
  if (failure !== undefined && done === 0)
    throw new Failure(failure.exit, `${failure.message.replace(/\.$/, '')}. Nothing was changed.`);
  if (failure !== undefined) {
    const open = outcome.steps.filter(({ state }) => state === 'not tried').map(({ step }) => step);
    const rest = open.length === 0 ? '' : ` Not tried: ${open.join('; ')}.`;
    throw new Failure(
      EXIT.partial,
      `done in part: ${done} of ${outcome.steps.length} steps were made, then it failed: ${failure.message.replace(/\.$/, '')}.${rest} ` +
        `Nothing has to be undone: '${report.again}' goes on from here.`,
    );
  }
  const faults = bad.map(({ peer, note }) => `'${peer}': ${note.replace(/\.$/, '')}`).join('; ');
  throw new Failure(
    EXIT.partial,
    `every change was made, but not every peer has applied it: ${faults}. Its agent tries again by itself; ` +
      "'arctic services get NAME' shows where it stands.",
  );
}

/** A plan that is not carried out, or has nothing to carry out. */
export async function reportPlan(
  context: Context,
  plan: Plan,
  same: string,
  facts: { readonly clusterId: string | null; readonly dryRun: boolean },
): Promise<void> {
  await context.output.either(
    {
      changed: false,
      dry_run: facts.dryRun,
      cluster_id: facts.clusterId,
      correlation_id: null,
      plan: planData(plan),
      steps: [],
      peers: [],
      error: null,
    },
    () => (plan.changes.length === 0 ? same : renderPlan(plan, context.output.style)),
  );
}
