import type { Context } from './context.ts';
import type { Argument, Flag } from './flag.ts';
import type { Input } from './input.ts';
import type { JsonOutput } from './json-output.ts';

export type { Argument, Completes, Flag } from './flag.ts';

export interface Example {
  readonly line: string;
  readonly says: string;
}

/** Runs one command and answers its exit code; a refusal is thrown. */
export type Run = (context: Context, input: Input) => Promise<number>;

/**
 * One command as data. The program, its help, the completion scripts and the man page all come from the same table,
 * and `load` brings in the code only when the command runs, so that `arctic version` does not pay for the rest.
 */
export interface Command {
  /** Words as typed: `peers list`. */
  readonly name: string;
  readonly aliases?: readonly string[];
  readonly summary: string;
  readonly description?: string;
  readonly args?: readonly Argument[];
  readonly flags?: readonly Flag[];
  readonly examples: readonly Example[];
  /** Never reads the configuration: it works, and starts fast, whatever state that file is in. */
  readonly standalone?: boolean;
  /** What it prints with `--json`. */
  readonly json: JsonOutput;
  readonly load: () => Promise<Run>;
}

/** The commands of one noun; `name` is also the heading in help. */
export interface Group {
  readonly name: string;
  /** Other spellings of the noun (`peer`). */
  readonly aliases?: readonly string[];
  readonly summary: string;
  readonly commands: readonly Command[];
}
