import type { Clock } from '../events/clock.ts';
import type { Client } from './client.ts';
import type { Config } from './config.ts';
import type { Output } from './output.ts';
import type { Terminal } from './terminal.ts';

/** What a command gets to work with. The client and the configuration are made when first asked for. */
export interface Context {
  readonly terminal: Terminal;
  readonly output: Output;
  readonly clock: Clock;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly version: string;
  /** The completion script of a shell, from the table of all commands. */
  completionScript(shell: 'bash' | 'zsh' | 'fish'): Promise<string>;
  /** arctic(1), from the same table. */
  manPage(): Promise<string>;
  readonly configPath: string;
  config(): Promise<Config>;
  /** Reads the configuration again, applies the change and writes it. */
  changeConfig(change: (config: Config) => Config): Promise<Config>;
  client(): Promise<Client>;
  /** A client for one address, with no regard to `--url` and `--peer`. */
  clientFor(url: string, config?: Config): Promise<Client>;
  /** The value of --url or ARCTIC_URL. */
  readonly url: string | undefined;
  /**
   * Asks before something is destroyed. Without a terminal only `--yes` goes on.
   * @throws Failure (usage) without a terminal and without `--yes`; (general) when the answer is no
   */
  confirm(question: string): Promise<void>;
  close(): Promise<void>;
}
