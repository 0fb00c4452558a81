import { createInterface } from 'node:readline';

/** The way to the person: stdout for data, stderr for everything else, and a question when there is a terminal. */
export interface Terminal {
  readonly stdoutIsTerminal: boolean;
  readonly stderrIsTerminal: boolean;
  /** Both ends of a conversation are there: a question can be asked. */
  readonly canAsk: boolean;
  /** Columns to fit tables into; undefined when stdout is a pipe, where nothing may be cut. */
  readonly columns: number | undefined;
  /** Data, to stdout. */
  data(text: string): void;
  /** Notes, warnings, progress and errors, to stderr, with a line end. */
  note(text: string): void;
  /** One line that is replaced by the next; nothing without a terminal. */
  status(text: string): void;
  /** Asks on stderr; the answer without its line end, or undefined when the input ended. */
  ask(question: string): Promise<string | undefined>;
  /** All of stdin as text. */
  readAll(): Promise<string>;
}

type Environment = Readonly<Record<string, string | undefined>>;

/** `COLUMNS` wins, as in other tools; else the terminal's own width. */
function columnsOf(env: Environment): number | undefined {
  const forced = Number(env['COLUMNS']);
  if (Number.isInteger(forced) && forced >= 20) return forced;
  return process.stdout.isTTY ? process.stdout.columns || 80 : undefined;
}

export function processTerminal(env: Environment): Terminal {
  let statusShown = false;
  const clearStatus = () => {
    if (statusShown) process.stderr.write('\r\u001b[K');
    statusShown = false;
  };
  return {
    stdoutIsTerminal: process.stdout.isTTY === true,
    stderrIsTerminal: process.stderr.isTTY === true,
    canAsk: process.stdin.isTTY === true && process.stderr.isTTY === true,
    columns: columnsOf(env),
    data(text) {
      clearStatus();
      process.stdout.write(text);
    },
    note(text) {
      clearStatus();
      process.stderr.write(`${text}\n`);
    },
    status(text) {
      if (!process.stderr.isTTY) return;
      clearStatus();
      if (text === '') return;
      process.stderr.write(text.slice(0, (process.stderr.columns || 80) - 1));
      statusShown = true;
    },
    ask(question) {
      clearStatus();
      const lines = createInterface({ input: process.stdin, output: process.stderr });
      return new Promise((resolve) => {
        let answered = false;
        lines.once('close', () => {
          // Ctrl-C or the end of the input leaves the cursor behind the question.
          if (!answered) process.stderr.write('\n');
          resolve(undefined);
        });
        lines.question(question, (answer) => {
          answered = true;
          resolve(answer);
          lines.close();
        });
      });
    },
    async readAll() {
      const chunks: Buffer[] = [];
      for await (const chunk of process.stdin) chunks.push(Buffer.from(chunk));
      return Buffer.concat(chunks).toString('utf8');
    },
  };
}

/** Text from elsewhere, safe for a terminal: control characters (escape sequences among them) become `?`. */
export const printable = (text: string): string =>
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is looked for
  text.replace(/[\u0000-\u0008\u000b-\u001f\u007f-\u009f]/g, '?');
