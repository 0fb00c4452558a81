import { usageFailure } from './failure.ts';
import type { Flag } from './flag.ts';

/** What the person typed for one command, read by the types of its table row. */
export interface Input {
  /** A required argument (the parser has checked that it is there). */
  arg(index: number): string;
  optionalArg(index: number): string | undefined;
  text(name: string): string | undefined;
  /** The text of a flag the table marks as required. */
  requiredText(name: string): string;
  number(name: string): number | undefined;
  /** True, false, or undefined when not given. */
  toggle(name: string): boolean | undefined;
  flag(name: string): boolean;
  list(name: string): readonly string[] | undefined;
}

const last = (value: unknown): unknown => (Array.isArray(value) ? value.at(-1) : value);

function readNumber(flag: Flag, raw: string): number {
  const value = Number(raw);
  const whole = flag.type === 'integer';
  const fits = whole ? /^[+-]?\d+$/.test(raw) && Number.isSafeInteger(value) : Number.isFinite(value);
  if (raw.trim() === '' || !fits)
    throw usageFailure(`--${flag.name} must be a ${whole ? 'whole number' : 'number'}, not '${raw}'.`);
  return value;
}

function checkChoice(flag: Flag, value: string): string {
  if (flag.choices !== undefined && !flag.choices.includes(value))
    throw usageFailure(`--${flag.name} must be one of ${flag.choices.join(', ')}, not '${value}'.`);
  return value;
}

/**
 * Wraps what sade parsed. Every value is checked here once, so that a command reads values that hold.
 * @throws Failure (usage) naming the first flag whose value does not fit.
 */
export function createInput(
  /** Of the command, as in its table row. */
  command: string,
  flags: readonly Flag[],
  args: readonly (string | undefined)[],
  options: Readonly<Record<string, unknown>>,
): Input {
  const values = new Map<string, string | number | boolean | readonly string[]>();
  for (const flag of flags) {
    const raw = options[flag.name];
    if (raw === undefined) continue;
    if (flag.type === 'boolean') values.set(flag.name, last(raw) === true);
    else if (flag.type === 'list') {
      const parts = (Array.isArray(raw) ? raw : [raw]).flatMap((one) => String(one).split(','));
      values.set(
        flag.name,
        parts.map((part) => checkChoice(flag, part.trim())).filter((part) => part !== ''),
      );
    } else {
      const text = String(last(raw));
      values.set(flag.name, flag.type === 'text' ? checkChoice(flag, text) : readNumber(flag, text));
    }
  }
  const value = (name: string) => {
    if (!flags.some((flag) => flag.name === name))
      throw new TypeError(`'${command}' reads --${name}, which its table does not declare`);
    return values.get(name);
  };
  const text = (name: string) => {
    const found = value(name);
    return typeof found === 'string' ? found : undefined;
  };
  const toggle = (name: string) => {
    const found = value(name);
    return typeof found === 'boolean' ? found : undefined;
  };
  return {
    arg(index) {
      const found = args[index];
      if (found === undefined) throw new TypeError(`'${command}' reads argument ${index}`);
      return found;
    },
    optionalArg: (index) => args[index],
    text,
    requiredText(name) {
      const found = text(name);
      if (found === undefined) throw usageFailure(`'arctic ${command}' needs --${name}.`);
      return found;
    },
    number(name) {
      const found = value(name);
      return typeof found === 'number' ? found : undefined;
    },
    toggle,
    flag: (name) => toggle(name) === true,
    list(name) {
      const found = value(name);
      return Array.isArray(found) ? found : undefined;
    },
  };
}
