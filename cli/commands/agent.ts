import { EXIT } from '../../events/errors.ts';
import { requireAgentSettings } from '../agent-settings.ts';
import type { Run } from '../command.ts';
import type { Context } from '../context.ts';
import { configurationFailure } from '../failure.ts';
import type { Input } from '../input.ts';
import { installAgent, parseSettings, type Step, systemctl, uninstallAgent } from '../setup/install.ts';
import { systemdRuns } from '../setup/systemd.ts';
import { UNIT_NAME } from '../setup/unit.ts';

function requireLinux(): void {
  if (process.platform !== 'linux')
    throw configurationFailure(
      `the agent runs on Linux only, and this is ${process.platform}. The other commands work here with --url.`,
    );
}

/** Runs the agent in this process. The only file of the CLI that brings in the agent, and with it the add-on. */
export const agent: Run = async (context, input) => {
  requireLinux();
  if (input.flag('cleanup')) {
    const { settings } = requireAgentSettings(context.env);
    const { cleanUpKernel } = await import('../../src/cleanup.ts');
    const done = await cleanUpKernel(settings);
    await context.output.either({ done }, () => done.map((one) => `${one}\n`).join(''));
    return EXIT.success;
  }
  const { runAgent } = await import('../../src/agent.ts');
  return runAgent(input.flag('observe-only') ? { ...context.env, OBSERVE_ONLY: '1' } : context.env, {
    verify: input.flag('verify-full') ? 'full' : 'tail',
  });
};

/** The kernel of this host as the agent would find it; for doctor and setup. */
export async function inspect(
  options: Parameters<typeof import('../../src/inspection.ts').inspectHost>[0],
): Promise<import('../../src/inspection.ts').Inspection> {
  const { inspectHost } = await import('../../src/inspection.ts');
  return inspectHost(options);
}

export type Inspection = Awaited<ReturnType<typeof inspect>>;

interface Outcome {
  readonly steps: readonly Step[];
  readonly systemd: readonly string[];
  readonly notDone: readonly string[];
}

async function show(context: Context, outcome: Outcome): Promise<number> {
  const { steps, systemd, notDone } = outcome;
  await context.output.either({ steps, systemd, not_done: notDone }, () =>
    [
      ...steps.map(({ what, done }) => `${done.padEnd(10)}${what}\n`),
      ...systemd.map((line) => `${'ran'.padEnd(10)}${line}\n`),
      ...notDone.map((line) => `${'not done'.padEnd(10)}${line}\n`),
    ].join(''),
  );
  return EXIT.success;
}

/** Runs systemctl where systemd runs and this is not an image; else says what was left to do. */
async function withSystemd(
  commands: readonly (readonly string[])[],
  root: string,
): Promise<Pick<Outcome, 'systemd' | 'notDone'>> {
  const lines = commands.map((argv) => `systemctl ${argv.join(' ')}`);
  if (root !== '') return { systemd: [], notDone: lines.map((line) => `${line} (--root)`) };
  if (!systemdRuns())
    return { systemd: [], notDone: lines.map((line) => `${line} (systemd does not run here)`) };
  for (const argv of commands) await systemctl(...argv);
  return { systemd: lines, notDone: [] };
}

const rootOf = (input: Input): string => (input.text('root') ?? '').replace(/\/+$/, '');

export const install: Run = async (context, input) => {
  requireLinux();
  const root = rootOf(input);
  const steps = installAgent({
    root,
    settings: parseSettings(input.list('set') ?? []),
    manPage: await context.manPage(),
  });
  const start = input.toggle('start') !== false;
  const outcome = await withSystemd(
    [['daemon-reload'], start ? ['enable', '--now', UNIT_NAME] : ['enable', UNIT_NAME]],
    root,
  );
  const code = await show(context, { steps, ...outcome });
  if (outcome.notDone.length === 0 || root !== '') return code;
  context.terminal.note(
    "The files are in place, but nothing starts the agent: run 'arctic agent' under your own supervisor.",
  );
  return EXIT.partial;
};

export const upgrade: Run = async (context, input) => {
  requireLinux();
  const root = rootOf(input);
  const steps = installAgent({ root, settings: {}, manPage: await context.manPage() });
  const outcome = await withSystemd([['daemon-reload'], ['restart', UNIT_NAME]], root);
  const code = await show(context, { steps, ...outcome });
  if (outcome.notDone.length === 0 || root !== '') return code;
  context.terminal.note(
    "Restart the agent yourself, so that it runs this version; 'arctic doctor' compares them.",
  );
  return EXIT.partial;
};

export const uninstall: Run = async (context, input) => {
  requireLinux();
  const root = rootOf(input);
  const purge = input.flag('purge');
  await context.confirm(
    purge
      ? 'Remove the agent from this host, with its event log, keys and settings?'
      : 'Remove the agent from this host? (Event log, keys and settings stay.)',
  );
  const stopped = await withSystemd([['disable', '--now', UNIT_NAME]], root);
  const kernel: string[] = [];
  if (root === '') {
    const { settings } = requireAgentSettings(context.env);
    const { cleanUpKernel } = await import('../../src/cleanup.ts');
    kernel.push(...(await cleanUpKernel(settings)));
  }
  const steps = uninstallAgent(root, purge);
  const reloaded = await withSystemd([['daemon-reload']], root);
  await show(context, {
    steps: [...kernel.map((what) => ({ what, done: 'removed' as const })), ...steps],
    systemd: [...stopped.systemd, ...reloaded.systemd],
    notDone: [...stopped.notDone, ...reloaded.notDone],
  });
  return EXIT.success;
};
