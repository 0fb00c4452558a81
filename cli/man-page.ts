import { EXIT } from '../events/errors.ts';
import type { Flag, Group } from './command.ts';
import { GLOBAL_FLAGS } from './global-flags.ts';
import { flagText, flagUsage, usageLine } from './help.ts';

export const EXIT_MEANINGS: Readonly<Record<keyof typeof EXIT, string>> = {
  success: 'Success.',
  general: 'General failure.',
  usage: 'The command line or the request is wrong.',
  configuration: 'The configuration, the license or the state of the agent does not allow it.',
  connection: 'The agent, or a peer it had to reach, does not answer.',
  authentication: 'No valid credentials, or not the scope that is needed.',
  partial: 'A part was done and a part failed.',
  different: 'There are differences (drift, diff).',
};

export const ENVIRONMENT: readonly (readonly [string, string])[] = [
  ['ARCTIC_CONFIG', 'Configuration file; --config wins.'],
  ['ARCTIC_URL', 'Agent to ask; --url wins.'],
  ['ARCTIC_TOKEN', 'Access token; --token wins.'],
  ['ARCTIC_RECOVERY_TOKEN', 'Recovery token; --recovery-token wins.'],
  ['XDG_CONFIG_HOME', 'Directory of the configuration (default ~/.config).'],
  ['NO_COLOR', 'When set, no colours.'],
];

/** Text safe for roff: backslashes and hyphens escaped, no line that starts with a control character. */
const roff = (text: string): string =>
  text
    .replaceAll('\\', '\\e')
    .replaceAll('-', '\\-')
    .replace(/^([.'])/gm, '\\&$1');

const term = (head: string, text: string): string => `.TP\n.B ${roff(head)}\n${roff(text)}`;
const flagTerms = (flags: readonly Flag[]): string[] =>
  flags.map((flag) => term(flagUsage(flag), flagText(flag)));

/**
 * arctic(1) from the command table, for man(7).
 * @param date `2026-01-31`, as the page's footer shows it
 */
export function manPage(groups: readonly Group[], version: string, date: string): string {
  const commands = groups.flatMap((group) =>
    group.commands.map((command) =>
      [
        `.SS ${roff(usageLine(command))}`,
        roff(command.description ?? command.summary),
        ...(command.args ?? []).map((arg) => term(arg.name, arg.summary)),
        ...flagTerms(command.flags ?? []),
        '.PP',
        command.examples.length === 1 ? 'Example:' : 'Examples:',
        '.PP\n.RS 4\n.nf',
        ...command.examples.map((example) => roff(example.line)),
        '.fi\n.RE',
      ].join('\n'),
    ),
  );
  return `${[
    `.TH ARCTIC 1 "${date}" "arctic ${version}" "Arctic"`,
    '.SH NAME',
    'arctic \\- accelerate TCP between your own Linux hosts',
    '.SH SYNOPSIS',
    '.B arctic\n.I command\n[\\fIsubcommand\\fR] [\\fIflags\\fR]',
    '.SH DESCRIPTION',
    roff('Data goes to stdout; progress, questions and errors go to stderr.'),
    '.SH COMMANDS',
    ...commands,
    '.SH GLOBAL FLAGS',
    ...flagTerms(GLOBAL_FLAGS),
    '.SH ENVIRONMENT',
    ...ENVIRONMENT.map(([name, text]) => term(name, text)),
    '.SH FILES',
    term('~/.config/arctic/config.yaml', 'Clusters, their endpoints and credentials (mode 0600).'),
    term(
      '~/.config/arctic/cache.json',
      'Access tokens until they expire, and the endpoint that answered last.',
    ),
    term('~/.config/arctic/names', 'Names for completion.'),
    '.SH EXIT STATUS',
    ...Object.entries(EXIT_MEANINGS).map(([name, text]) =>
      term(String(EXIT[name as keyof typeof EXIT]), text),
    ),
  ].join('\n')}\n`;
}
