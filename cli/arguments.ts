import { didYouMean } from '../events/suggest.ts';
import type { Command, Flag, Group } from './command.ts';
import { usageFailure } from './failure.ts';
import { GLOBAL_FLAGS, HELP_FLAG } from './global-flags.ts';

/** What a command line turned out to be. */
export type Parsed =
  | { readonly kind: 'help'; readonly topic: Group | Command | undefined }
  | { readonly kind: 'version' }
  | { readonly kind: 'group'; readonly group: Group }
  /** `line` is the same command line in the one form sade parses without surprises. */
  | { readonly kind: 'command'; readonly command: Command; readonly line: readonly string[] };

interface Token {
  readonly flag: string | undefined;
  readonly text: string;
}

/** Command line without the meaning of its flags: which words could be a command. */
const firstWords = (tokens: readonly Token[]): readonly Token[] =>
  tokens.filter((token) => token.flag === undefined);

const spellings = (group: Group): readonly string[] => [group.name, ...(group.aliases ?? [])];

/** All the ways to type a command: its aliases, and each under every spelling of its noun. */
export function namesOf(group: Group, command: Command): readonly string[] {
  const own = [command.name, ...(command.aliases ?? [])];
  return own.flatMap((name) => {
    if (name !== group.name && !name.startsWith(`${group.name} `)) return [name];
    return spellings(group).map((noun) => noun + name.slice(group.name.length));
  });
}

/** Flags of a command with the global ones; its own win over a global one of the same name. */
export function flagsOf(command: Command | undefined): readonly Flag[] {
  const own = command?.flags ?? [];
  return [...own, ...GLOBAL_FLAGS.filter((flag) => !own.some((mine) => mine.name === flag.name)), HELP_FLAG];
}

interface FlagMatch {
  readonly flag: Flag;
  /** `false` for `--no-NAME`. */
  readonly on: boolean;
}

function matchLong(name: string, flags: readonly Flag[]): FlagMatch | undefined {
  const kebab = name.replaceAll('_', '-');
  const exact = flags.find((flag) => flag.name === kebab);
  if (exact !== undefined) return { flag: exact, on: true };
  if (!kebab.startsWith('no-')) return undefined;
  const off = flags.find((flag) => flag.type === 'boolean' && flag.name === kebab.slice(3));
  return off === undefined ? undefined : { flag: off, on: false };
}

/** Flags whose value is a separate word must be known before the command is: every one that any command has. */
function anyFlag(groups: readonly Group[]): readonly Flag[] {
  const all = groups.flatMap((group) => group.commands.flatMap((command) => command.flags ?? []));
  return [...GLOBAL_FLAGS, HELP_FLAG, ...all];
}

const shown = (flag: Flag): string => (flag.negated ? `--no-${flag.name}` : `--${flag.name}`);

/** Splits argv into flags in long form (`--name=value`, `--name`) and plain words. */
function tokenize(argv: readonly string[], flags: readonly Flag[], where: string): Token[] {
  const tokens: Token[] = [];
  let index = 0;
  const take = (flag: Flag): string => {
    const next = argv[index + 1];
    if (next === undefined || (next.length > 1 && next.startsWith('-') && !/^-\d/.test(next)))
      throw usageFailure(`--${flag.name} needs a value${flag.value ? ` (${flag.value})` : ''}.`);
    index += 1;
    return next;
  };
  const push = (flag: Flag, value: string) => tokens.push({ flag: flag.name, text: value });
  const unknown = (typed: string): never => {
    const name = typed.replace(/^-+/, '');
    const hint = didYouMean(
      name,
      flags.map((flag) => shown(flag).slice(2)),
      '--',
    );
    throw usageFailure(`unknown flag '${typed}'${where}.${hint}`);
  };
  for (; index < argv.length; index++) {
    const word = argv[index] ?? '';
    if (word === '--') {
      for (const rest of argv.slice(index + 1)) tokens.push({ flag: undefined, text: rest });
      break;
    }
    if (word.startsWith('--')) {
      const equals = word.indexOf('=');
      const name = equals < 0 ? word.slice(2) : word.slice(2, equals);
      const match = matchLong(name, flags) ?? unknown(equals < 0 ? word : word.slice(0, equals));
      if (match.flag.type === 'boolean') {
        const given = equals < 0 ? 'true' : word.slice(equals + 1);
        if (given !== 'true' && given !== 'false')
          throw usageFailure(`${shown(match.flag)} is on or off: '=true' or '=false', not '=${given}'.`);
        push(match.flag, String((given === 'true') === match.on));
      } else push(match.flag, equals < 0 ? take(match.flag) : word.slice(equals + 1));
    } else if (word.startsWith('-') && word.length > 1 && !/^-\d/.test(word)) {
      for (let at = 1; at < word.length; at++) {
        const flag = flags.find((one) => one.short === word[at]) ?? unknown(`-${word[at]}`);
        if (flag.type === 'boolean') push(flag, 'true');
        else {
          const rest = word.slice(at + 1).replace(/^=/, '');
          push(flag, rest === '' ? take(flag) : rest);
          break;
        }
      }
    } else tokens.push({ flag: undefined, text: word });
  }
  return tokens;
}

interface Found {
  readonly group: Group;
  readonly command: Command;
  readonly words: number;
}

/** The command with the longest name that the words begin with. */
function findCommand(words: readonly string[], groups: readonly Group[]): Found | undefined {
  let best: Found | undefined;
  for (const group of groups)
    for (const command of group.commands)
      for (const name of namesOf(group, command)) {
        const parts = name.split(' ');
        if (parts.length > (best?.words ?? 0) && parts.every((part, at) => words[at] === part))
          best = { group, command, words: parts.length };
      }
  return best;
}

const findGroup = (word: string | undefined, groups: readonly Group[]): Group | undefined =>
  groups.find((group) => word !== undefined && spellings(group).includes(word));

/** The group of `license root`: the commands whose name goes on from the words given. */
function subgroup(group: Group, words: readonly string[]): { group: Group; depth: number } {
  let depth = 1;
  let commands = group.commands;
  for (;;) {
    const word = words[depth];
    const deeper = commands.filter(
      (command) => command.name.split(' ')[depth] === word && command.name.split(' ').length > depth + 1,
    );
    if (word === undefined || deeper.length === 0) break;
    commands = deeper;
    depth += 1;
  }
  return { group: { ...group, commands }, depth };
}

function unknownCommand(words: readonly string[], groups: readonly Group[]): never {
  const group = findGroup(words[0], groups);
  if (group === undefined) {
    const nouns = groups.flatMap(spellings);
    throw usageFailure(
      `unknown command '${words[0]}'.${didYouMean(words[0] ?? '', nouns, 'arctic ')} ` +
        `'arctic --help' lists them.`,
    );
  }
  const { group: inner, depth } = subgroup(group, words);
  const prefix = words.slice(0, depth).join(' ');
  const verbs = inner.commands.flatMap((command) => command.name.split(' ')[depth] ?? []);
  throw usageFailure(
    `unknown command '${prefix} ${words[depth]}'.${didYouMean(words[depth] ?? '', verbs, `arctic ${prefix} `)} ` +
      `'arctic ${prefix} --help' lists them.`,
  );
}

function checkArguments(command: Command, words: readonly string[]): void {
  const args = command.args ?? [];
  const missing = args.find((arg, at) => arg.required && words[at] === undefined);
  if (missing !== undefined)
    throw usageFailure(`'arctic ${command.name}' needs ${missing.name}: ${missing.summary}`);
  if (words.length > args.length)
    throw usageFailure(
      `'arctic ${command.name}' takes ${args.length === 0 ? 'no argument' : `no more than ${args.length}`}: ` +
        `'${words[args.length]}' is too many.`,
    );
  args.forEach((arg, at) => {
    const word = words[at];
    if (word !== undefined && arg.choices !== undefined && !arg.choices.includes(word))
      throw usageFailure(`${arg.name} must be one of ${arg.choices.join(', ')}, not '${word}'.`);
  });
}

/**
 * Finds out what a command line asks for. sade does the dispatch, but its own refusals end the process with code 1 and
 * it takes the value of a flag that stands before the command for the command, so everything is checked and put in
 * order here: command words, then `--flag=value`, then `--` and the arguments.
 * @throws Failure (usage)
 */
export function parseArguments(argv: readonly string[], groups: readonly Group[]): Parsed {
  // `help peers add` is `peers add --help`.
  const asked = argv[0] === 'help' ? [...argv.slice(1), '--help'] : argv;
  if (asked.length === 0) return { kind: 'help', topic: undefined };
  if (asked[0] === '--version' || asked[0] === '-v') return { kind: 'version' };

  const rough = words(asked, anyFlag(groups));
  const found = findCommand(rough, groups);
  const wantsHelp = asked.some((word) => word === '--help' || word === '-h');
  if (found === undefined) {
    const group = findGroup(rough[0], groups);
    if (rough.length === 0) {
      // Refuse a flag nobody knows even when no command follows it.
      tokenize(asked, anyFlag(groups), '');
      return { kind: 'help', topic: undefined };
    }
    if (group === undefined) return unknownCommand(rough, groups);
    const inner = subgroup(group, rough);
    if (rough.length > inner.depth) return unknownCommand(rough, groups);
    return wantsHelp ? { kind: 'help', topic: inner.group } : { kind: 'group', group: inner.group };
  }
  const { command, group, words: used } = found;
  if (wantsHelp) {
    const isGroup = group.commands.length > 1 && command.name === group.name;
    return { kind: 'help', topic: isGroup ? group : command };
  }
  const flags = flagsOf(command);
  const tokens = tokenize(asked, flags, ` for 'arctic ${command.name}'`);
  const args = firstWords(tokens)
    .slice(used)
    .map((token) => token.text);
  if (args.length > 0 && (command.args ?? []).length === 0 && group.commands.length > 1)
    if (command.name === group.name) unknownCommand([...command.name.split(' '), ...args], groups);
  checkArguments(command, args);
  for (const flag of command.flags ?? [])
    if (flag.required && !tokens.some((token) => token.flag === flag.name))
      throw usageFailure(
        `'arctic ${command.name}' needs --${flag.name} ${flag.value ?? ''}`.trimEnd().concat('.'),
      );
  return {
    kind: 'command',
    command,
    line: [
      ...command.name.split(' '),
      ...tokens.flatMap((token) => (token.flag === undefined ? [] : [`--${token.flag}=${token.text}`])),
      '--',
      ...args,
    ],
  };
}

/** The plain words, tolerant of flags that turn out to be unknown: those are refused once the command is known. */
function words(argv: readonly string[], flags: readonly Flag[]): readonly string[] {
  const found: string[] = [];
  for (let index = 0; index < argv.length; index++) {
    const word = argv[index] ?? '';
    if (word === '--') return [...found, ...argv.slice(index + 1)];
    if (!word.startsWith('-') || word === '-' || /^-\d/.test(word)) {
      found.push(word);
      continue;
    }
    if (word.includes('=')) continue;
    const flag = word.startsWith('--')
      ? matchLong(word.slice(2), flags)?.flag
      : flags.find((one) => one.short === word.at(-1));
    if (flag !== undefined && flag.type !== 'boolean') index += 1;
  }
  return found;
}
