/** A person at a terminal of 80 columns and 24 lines: a pseudo-terminal by script(1), and what its screen shows. */
import { type ChildProcess, spawn } from 'node:child_process';
import { setTimeout as sleep } from 'node:timers/promises';

export const COLUMNS = 80;
export const LINES = 24;

/** The part of a VT100 that prompts use: cursor movement, erasing, line feeds with scrolling. */
export function createScreen(): { write(text: string): void; lines(): readonly string[] } {
  let rows: string[][] = [[]];
  let top = 0;
  let row = 0;
  let column = 0;
  let pending = '';

  const lineAt = (index: number): string[] => {
    while (rows.length <= index) rows.push([]);
    return rows[index] ?? [];
  };
  const feed = (): void => {
    row += 1;
    lineAt(row);
    if (row - top >= LINES) top = row - LINES + 1;
  };
  const put = (character: string): void => {
    if (column >= COLUMNS) {
      column = 0;
      feed();
    }
    const line = lineAt(row);
    while (line.length < column) line.push(' ');
    line[column] = character;
    column += 1;
  };
  const control = (parameters: string, final: string): void => {
    const [first = 0] = parameters.split(';').map((one) => Number(one.replace('?', '')) || 0);
    const count = Math.max(1, first);
    if (final === 'A') row = Math.max(top, row - count);
    else if (final === 'B') row = Math.min(top + LINES - 1, row + count);
    else if (final === 'C') column = Math.min(COLUMNS - 1, column + count);
    else if (final === 'D') column = Math.max(0, column - count);
    else if (final === 'G') column = count - 1;
    else if (final === 'J') {
      lineAt(row).splice(column);
      rows = rows.slice(0, row + 1);
    } else if (final === 'K') {
      if (first === 2) rows[row] = [];
      else if (first === 0) lineAt(row).splice(column);
    }
  };

  return {
    write(text) {
      pending += text;
      while (pending !== '') {
        // biome-ignore lint/suspicious/noControlCharactersInRegex: escape sequences are what is read
        const sequence = /^\u001b\[([0-9;?]*)([A-Za-z])/.exec(pending);
        if (sequence !== null) {
          control(sequence[1] ?? '', sequence[2] ?? '');
          pending = pending.slice(sequence[0].length);
          continue;
        }
        // biome-ignore lint/suspicious/noControlCharactersInRegex: an unfinished sequence waits for its end
        if (/^\u001b(\[[0-9;?]*)?$/.test(pending)) return;
        const [character = ''] = pending;
        pending = pending.slice(character.length);
        if (character === '\n') feed();
        else if (character === '\r') column = 0;
        else if (character === '\b') column = Math.max(0, column - 1);
        else if (character >= ' ') put(character);
      }
    },
    lines: () =>
      rows.slice(top, top + LINES).map((line) =>
        Array.from(line, (cell) => cell ?? ' ')
          .join('')
          .trimEnd(),
      ),
  };
}

const KEYS = { enter: '\r', down: '\u001b[B', up: '\u001b[A', interrupt: '\u0003', erase: '\u0015' } as const;

export interface Person {
  /** What the screen shows now, without trailing blank lines. */
  screen(): string;
  /** Everything that was ever written, escape sequences included. */
  readonly raw: () => string;
  /** Waits until the screen matches; fails with the screen after `limit` ms. */
  sees(pattern: RegExp, limit?: number): Promise<string>;
  type(text: string): void;
  press(...keys: (keyof typeof KEYS)[]): void;
  /** Waits for the end; gives the exit code. */
  leaves(limit?: number): Promise<number>;
  end(): void;
}

const shellWord = (word: string): string => `'${word.replaceAll("'", "'\\''")}'`;

/** Starts a program on a terminal, in a network namespace (a path). */
export function sit(
  namespace: string,
  argv: readonly string[],
  env: Readonly<Record<string, string>>,
  cwd: string,
): Person {
  const line = `stty cols ${COLUMNS} rows ${LINES}; exec ${argv.map(shellWord).join(' ')}`;
  const child: ChildProcess = spawn(
    'nsenter',
    [`--net=${namespace}`, '--', 'env', '-u', 'NODE_OPTIONS', 'script', '-qefc', line, '/dev/null'],
    { cwd, env: { TERM: 'xterm', ...env }, stdio: ['pipe', 'pipe', 'pipe'] },
  );
  const screen = createScreen();
  let raw = '';
  let code: number | undefined;
  const take = (chunk: Buffer): void => {
    const text = chunk.toString('utf8');
    raw += text;
    screen.write(text);
  };
  child.stdout?.on('data', take);
  child.stderr?.on('data', take);
  child.stdin?.on('error', () => {});
  child.once('close', (ended) => {
    code = ended ?? 1;
  });
  const shown = (): string => screen.lines().join('\n').trimEnd();
  const fail = (what: string): never => {
    child.kill('SIGKILL');
    throw new Error(`${what}; the screen:\n${shown()}`);
  };
  return {
    screen: shown,
    raw: () => raw,
    async sees(pattern, limit = 40_000) {
      for (let waited = 0; !pattern.test(shown()); waited += 25) {
        if (code !== undefined && !pattern.test(shown()))
          fail(`${pattern} was not seen before the end (${code})`);
        if (waited > limit) fail(`${pattern} was not seen`);
        await sleep(25);
      }
      return shown();
    },
    type: (text) => void child.stdin?.write(text),
    press: (...keys) => {
      for (const key of keys) child.stdin?.write(KEYS[key]);
    },
    async leaves(limit = 60_000) {
      for (let waited = 0; code === undefined; waited += 25) {
        if (waited > limit) fail('it does not end');
        await sleep(25);
      }
      return code;
    },
    end: () => void child.kill('SIGKILL'),
  };
}
