import sade from 'sade';
import { systemClock } from '../events/clock.ts';
import { type ErrorDetail, EXIT } from '../events/errors.ts';
import { flagsOf, namesOf, parseArguments } from './arguments.ts';
import type { Command, Group } from './command.ts';
import { type Failure, isRefusal, toFailure, usageFailure } from './failure.ts';
import { commandHelp, groupHelp, mainHelp } from './help.ts';
import { createInput } from './input.ts';
import { createStyle } from './style.ts';
import { GROUPS } from './table.ts';
import { printable, processTerminal, type Terminal } from './terminal.ts';
import { cliVersion } from './version.ts';

/** In the footer of the manual page: when its commands last changed. Not today's date, or no two pages were alike. */
const PAGE_DATE = '2026-11-22';

type Environment = Readonly<Record<string, string | undefined>>;

const isGroup = (topic: Group | Command): topic is Group => 'commands' in topic;

/** The sade program of the table: one command each, with its aliases, flags and examples. */
export function buildProgram(groups: readonly Group[], version: string): sade.Sade {
  const program = sade('arctic').version(version);
  for (const group of groups)
    for (const command of group.commands) {
      const args = (command.args ?? []).map((arg) => (arg.required ? `<${arg.name}>` : `[${arg.name}]`));
      program.command([command.name, ...args].join(' '), command.summary);
      const aliases = namesOf(group, command).filter((name) => name !== command.name);
      if (aliases.length > 0) program.alias(...aliases);
      for (const flag of flagsOf(command)) {
        if (flag.name === 'help') continue;
        const short = flag.short === undefined ? '' : `-${flag.short}, `;
        program.option(`${short}--${flag.name}`, flag.summary);
      }
      for (const example of command.examples) program.example(example.line.replace(/^arctic /, ''));
      program.action((...given: unknown[]) => ({
        command,
        args: given.slice(0, -1).map((arg) => (arg === undefined ? undefined : String(arg))),
        options: given.at(-1),
      }));
    }
  return program;
}

interface Dispatch {
  readonly args: readonly (string | undefined)[];
  readonly options: Readonly<Record<string, unknown>>;
}

/** Lets sade take a checked line apart. Values stay text: mri would make the number 7 of the name `007`. */
function dispatch(command: Command, line: readonly string[], version: string): Dispatch {
  const flags = flagsOf(command);
  const program = buildProgram(GROUPS, version);
  const parsed = program.parse(['node', 'arctic', ...line], {
    lazy: true,
    string: flags.filter((flag) => flag.type !== 'boolean').map((flag) => flag.name),
    boolean: flags.filter((flag) => flag.type === 'boolean').map((flag) => flag.name),
  });
  const { args, options } = parsed.handler(...parsed.args) as Dispatch;
  // mri fills in false for each boolean; only what stands on the line was said.
  const said = new Set(line.flatMap((word) => /^--([^=]+)=/.exec(word)?.[1] ?? []));
  return { args, options: Object.fromEntries(Object.entries(options).filter(([name]) => said.has(name))) };
}

function showHelp(topic: Group | Command | undefined, terminal: Terminal, env: Environment): string {
  const style = createStyle(terminal.stdoutIsTerminal && !env['NO_COLOR'] && env['TERM'] !== 'dumb');
  const width = Math.min(terminal.columns ?? 80, 100);
  if (topic === undefined) return mainHelp(GROUPS, style, width);
  return isGroup(topic) ? groupHelp(topic, style, width) : commandHelp(topic, style, width);
}

async function runLine(argv: readonly string[], env: Environment, terminal: Terminal): Promise<number> {
  const parsed = parseArguments(argv, GROUPS);
  const version = cliVersion();
  if (parsed.kind === 'version') {
    terminal.data(`arctic ${version}\n`);
    return EXIT.success;
  }
  if (parsed.kind === 'help') {
    terminal.data(showHelp(parsed.topic, terminal, env));
    return EXIT.success;
  }
  if (parsed.kind === 'group') {
    const verbs = parsed.group.commands.map((command) => command.name.split(' ').at(-1));
    throw usageFailure(`'arctic ${argv.join(' ')}' needs a subcommand: ${verbs.join(', ')}.`);
  }
  const { command } = parsed;
  const { args, options } = dispatch(command, parsed.line, version);
  const input = createInput(command.name, flagsOf(command), args, options);
  const [{ createContext }, run] = await Promise.all([import('./session.ts'), command.load()]);
  const context = await createContext(input, {
    env,
    terminal,
    clock: systemClock,
    version,
    standalone: command.standalone === true,
    completionScript: async (shell) =>
      (await import('./completion-script.ts')).completionScript(shell, GROUPS),
    manPage: async () => (await import('./man-page.ts')).manPage(GROUPS, version, PAGE_DATE),
  });
  try {
    return await run(context, input);
  } finally {
    await context.close();
  }
}

/** Details that say more than the line above them: several faults, or one that goes on beyond it. */
function newDetails(failure: Failure): readonly ErrorDetail[] {
  const [only, ...others] = failure.details;
  if (only === undefined || others.length > 0) return failure.details;
  const said = failure.message.includes(only.message) || only.message.split(' ').length <= 3;
  return said ? [] : failure.details;
}

/** Runs one command line; answers the exit code. Never throws, never shows a stack unless `--debug` asks for it. */
export async function main(
  argv: readonly string[],
  env: Environment,
  terminal: Terminal = processTerminal(env),
): Promise<number> {
  try {
    return await runLine(argv, env, terminal);
  } catch (error) {
    const failure = toFailure(error);
    terminal.note(`Error: ${printable(failure.message)}`);
    for (const detail of newDetails(failure))
      terminal.note(printable(`  ${detail.pointer}${detail.pointer === '' ? '' : ': '}${detail.message}`));
    // A refusal is complete in its line; a fault of our own is worth a stack to whoever asks for it.
    if (!isRefusal(error) && argv.includes('--debug') && error instanceof Error)
      terminal.note(`debug: ${error.stack ?? ''}`);
    return failure.exit;
  }
}
