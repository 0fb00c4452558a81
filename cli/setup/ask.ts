import { createInterface } from 'node:readline';
import { EXIT } from '../../events/errors.ts';
import { Failure } from '../failure.ts';

/** A question about one answer. `check` gives what is wrong with it, in words. */
export interface TextQuestion {
  readonly message: string;
  readonly fallback?: string;
  readonly check: (text: string) => string | undefined | Promise<string | undefined>;
}

export interface Choice<T> {
  readonly name: string;
  readonly value: T;
}

export interface Asker {
  text(question: TextQuestion): Promise<string>;
  choose<T extends string>(message: string, choices: readonly Choice<T>[], fallback?: T): Promise<T>;
  confirm(message: string, fallback: boolean): Promise<boolean>;
  /** Lines until they make a JSON document, or an empty one. */
  document(message: string): Promise<string>;
}

const INTERRUPTED = "interrupted; nothing more was changed. 'arctic setup' goes on from here.";
export const interrupted = (): Failure => new Failure(EXIT.general, INTERRUPTED);

const plain = (text: string): string => text;

/** The prompts without colours and with plain characters. */
const PLAIN_THEME = {
  prefix: { idle: '?', done: '*' },
  icon: { cursor: '>' },
  spinner: { interval: 200, frames: ['-'] },
  style: {
    answer: plain,
    message: plain,
    error: (text: string) => `! ${text}`,
    defaultAnswer: (text: string) => `(${text})`,
    help: plain,
    highlight: plain,
    key: (text: string) => `<${text}>`,
    disabled: plain,
    description: plain,
    keysHelpTip: () => '(arrow keys, then Enter)',
  },
};

/** Questions on the terminal, by inquirer, on stderr like every other conversation. */
export async function createAsker(colours: boolean): Promise<Asker> {
  const { createPromptModule } = await import('inquirer');
  const prompt = createPromptModule({ input: process.stdin, output: process.stderr });
  const theme = colours ? {} : { theme: PLAIN_THEME };

  async function ask<T>(question: Record<string, unknown>): Promise<T> {
    try {
      const answers = await prompt([{ ...question, ...theme, name: 'answer' } as never]);
      return (answers as { answer: T }).answer;
    } catch (error) {
      if (error instanceof Error && /^(ExitPromptError|AbortPromptError|CancelPromptError)$/.test(error.name))
        throw interrupted();
      throw error;
    }
  }

  return {
    text: ({ message, fallback, check }) =>
      ask<string>({
        type: 'input',
        message,
        ...(fallback === undefined ? {} : { default: fallback }),
        validate: async (value: string) => (await check(value.trim())) ?? true,
      }).then((text) => text.trim()),
    choose: (message, choices, fallback) =>
      ask({
        type: 'select',
        message,
        choices: [...choices],
        ...(fallback === undefined ? {} : { default: fallback }),
      }),
    confirm: (message, fallback) => ask({ type: 'confirm', message, default: fallback }),
    document(message) {
      process.stderr.write(`? ${message}\n`);
      const lines = createInterface({ input: process.stdin, output: process.stderr, terminal: true });
      return new Promise((resolve, reject) => {
        let text = '';
        let done = false;
        const finish = () => {
          done = true;
          lines.close();
          resolve(text);
        };
        lines.on('line', (line) => {
          text += `${line}\n`;
          if (text.trim() !== '' && (line.trim() === '' || isDocument(text))) finish();
        });
        lines.on('SIGINT', () => lines.close());
        lines.once('close', () => {
          if (!done) reject(interrupted());
        });
      });
    },
  };
}

function isDocument(text: string): boolean {
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}
