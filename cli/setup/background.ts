import { spawn } from 'node:child_process';
import { closeSync, mkdirSync, openSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { EXIT } from '../../events/errors.ts';
import { Failure } from '../failure.ts';
import { agentProgram } from './unit.ts';

/** Where an agent that no unit runs writes what it has to say. */
export const backgroundLog = (dataDir: string): string => join(dataDir, 'agent.log');

export interface Started {
  readonly pid: number;
  readonly log: string;
  /** What it said before it ended; undefined while it runs. */
  ended(): string | undefined;
}

/** Starts the agent in a session of its own, so that it outlives this command and its terminal. */
export function startInBackground(
  dataDir: string,
  env: Readonly<Record<string, string | undefined>>,
): Started {
  mkdirSync(dataDir, { recursive: true, mode: 0o700 });
  const log = backgroundLog(dataDir);
  const file = openSync(log, 'a', 0o600);
  const [program = process.execPath, ...argv] = agentProgram();
  const child = spawn(program, argv, {
    cwd: '/',
    detached: true,
    env,
    stdio: ['ignore', file, file],
  });
  closeSync(file);
  let over = child.pid === undefined;
  child.once('exit', () => {
    over = true;
  });
  child.once('error', () => {
    over = true;
  });
  child.unref();
  if (child.pid !== undefined) writeFileSync(join(dataDir, 'agent.pid'), `${child.pid}\n`, { mode: 0o600 });
  return {
    pid: child.pid ?? 0,
    log,
    ended: () => (over ? (readFileSync(log, 'utf8').trim().split('\n').at(-1) ?? '') : undefined),
  };
}

/** Repeats a probe until it holds. @throws Failure when it does not in time, or when `over` says why it never will */
export async function untilTrue(
  what: string,
  limitMs: number,
  probe: () => Promise<boolean>,
  over: () => string | undefined = () => undefined,
): Promise<void> {
  for (let waited = 0; ; waited += 200) {
    if (await probe()) return;
    const reason = over();
    if (reason !== undefined) throw new Failure(EXIT.general, `${what}: ${reason}`);
    if (waited > limitMs)
      throw new Failure(
        EXIT.general,
        `${what}: not within ${limitMs / 1000} s. 'arctic doctor' looks for the cause.`,
      );
    await sleep(200);
  }
}
