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
