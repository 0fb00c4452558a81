import { flagsOf } from './arguments.ts';
import type { Argument, Command, Flag, Group } from './command.ts';
import { GLOBAL_FLAGS } from './global-flags.ts';
import { fold } from './output.ts';
import type { Style } from './style.ts';

/** Two columns, the second folded beside the first. */
function pairs(rows: readonly (readonly [string, string])[], width: number): string {
  const first = Math.min(34, Math.max(...rows.map(([left]) => left.length)) + 2);
  return rows
    .map(([left, right]) => {
      const text = fold(right, width - first - 2);
      const beside = text.split('\n').join(`\n${' '.repeat(first + 2)}`);
      const gap = left.length + 2 > first ? `\n${' '.repeat(first + 2)}` : ' '.repeat(first - left.length);
      return `  ${left}${gap}${beside}`;
    })
    .join('\n');
}

export function flagUsage(flag: Flag): string {
  const short = flag.short === undefined ? '' : `-${flag.short}, `;
  const name = flag.negated ? `--no-${flag.name}` : `--${flag.name}`;
  return `${short}${name}${flag.type === 'boolean' ? '' : ` ${flag.value ?? 'VALUE'}`}`;
}

export const flagText = (flag: Flag): string =>
  flag.choices === undefined ? flag.summary : `${flag.summary} One of: ${flag.choices.join(', ')}.`;

const argumentUsage = (arg: Argument): string => (arg.required ? arg.name : `[${arg.name}]`);

/** `arctic routes add --service SERVICE [flags]` */
export function usageLine(command: Command): string {
  const required = (command.flags ?? []).filter((flag) => flag.required).map(flagUsage);
  const parts = ['arctic', command.name, ...(command.args ?? []).map(argumentUsage), ...required, '[flags]'];
  return parts.join(' ');
}

/** Help for one command: what it does, how it is typed, its flags, and lines to copy. */
export function commandHelp(command: Command, style: Style, width: number): string {
  const own = command.flags ?? [];
  const others = flagsOf(command).filter((flag) => !own.includes(flag));
  const sections = [
    fold(command.description ?? command.summary, width),
    `${style.bold('Usage')}\n${fold(usageLine(command), width, '  ')}`,
  ];
  if (command.aliases !== undefined && command.aliases.length > 0)
    sections.push(`${style.bold('Aliases')}\n  ${command.aliases.map((one) => `arctic ${one}`).join(', ')}`);
  if (command.args !== undefined && command.args.length > 0)
    sections.push(
      `${style.bold('Arguments')}\n${pairs(
        command.args.map((arg) => [arg.name, arg.summary] as const),
        width,
      )}`,
    );
  if (own.length > 0)
    sections.push(
      `${style.bold('Flags')}\n${pairs(
        own.map((flag) => [flagUsage(flag), flagText(flag)] as const),
        width,
      )}`,
    );
  sections.push(
    `${style.bold('Global flags')}\n${pairs(
      others.map((flag) => [flagUsage(flag), flagText(flag)] as const),
      width,
    )}`,
  );
  sections.push(
    `${style.bold('Examples')}\n${command.examples
      .map((example) => `${fold(`# ${example.says}`, width, '  ')}\n  ${example.line}`)
      .join('\n')}`,
  );
  return `${sections.join('\n\n')}\n`;
}

/** Help for a noun: its commands, one line each. */
export function groupHelp(group: Group, style: Style, width: number): string {
  const rows = group.commands.map((command) => {
    const args = (command.args ?? []).map(argumentUsage).join(' ');
    return [`${command.name}${args === '' ? '' : ` ${args}`}`, command.summary] as const;
  });
  const first = group.commands[0]?.examples[0];
  return [
    fold(group.summary, width),
    '',
    style.bold('Commands'),
    pairs(rows, width),
    '',
    ...(first === undefined ? [] : [style.bold('Example'), `  ${first.line}`, '']),
    `'arctic ${group.commands[0]?.name ?? group.name} --help' shows the flags of one of them.`,
    '',
  ].join('\n');
}

/** The first page. */
export function mainHelp(groups: readonly Group[], style: Style, width: number): string {
  const rows = groups.map((group) => [group.name, group.summary] as const);
  return [
    'Arctic accelerates TCP between your own Linux hosts. This is its command line.',
    '',
    style.bold('Usage'),
    '  arctic COMMAND [SUBCOMMAND] [flags]',
    '',
    style.bold('Commands'),
    pairs(rows, width),
    '',
    style.bold('Global flags'),
    pairs(
      GLOBAL_FLAGS.map((flag) => [flagUsage(flag), flagText(flag)] as const),
      width,
    ),
    '',
    style.bold('Examples'),
    '  arctic bootstrap --url http://10.0.0.1:8080 --license-file license.json',
    '  arctic peers add 10.0.0.2:8080',
    '  arctic services list',
    '',
    "'arctic COMMAND --help' shows a command with its flags and examples.",
    '',
  ].join('\n');
}
