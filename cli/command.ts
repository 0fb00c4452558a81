import type { Context } from './context.ts';
import type { Input } from './input.ts';

/** What a value names, so that completion can offer the right things and help can say where it comes from. */
export type Completes = 'peer' | 'service' | 'cluster' | 'file' | 'directory' | 'shell';

export interface Flag {
  /** Long name without dashes, kebab-case. */
  readonly name: string;
  /** One letter. */
  readonly short?: string;
  /** `boolean` takes no value (or `=true`/`=false`); `list` takes commas and may be repeated. */
  readonly type: 'boolean' | 'text' | 'integer' | 'number' | 'list';
  /** Placeholder in help: `HOST:PORT`. */
  readonly value?: string;
  readonly summary: string;
  readonly required?: boolean;
  /** A boolean that is on unless `--no-NAME` is given; help shows that form. */
  readonly negated?: boolean;
  readonly choices?: readonly string[];
  readonly completes?: Completes;
}

export interface Argument {
  /** Placeholder in help: `PEER`. */
  readonly name: string;
  readonly required: boolean;
  readonly summary: string;
  readonly choices?: readonly string[];
  readonly completes?: Completes;
}

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
