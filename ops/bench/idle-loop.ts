/** A Node process that does nothing, to tell what the machine makes of an event loop from what our work makes of it. */
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { fileURLToPath } from 'node:url';

const RESOLUTION_MS = 10;
const IDLE = 'idle';

/** Measures this process's event loop; answers the 99th percentile since the last call, ms. */
export function watchLoop(): () => number {
  const delay = monitorEventLoopDelay({ resolution: RESOLUTION_MS });
  delay.enable();
  return () => {
    const taken = delay.percentile(99) / 1e6;
    delay.reset();
    return taken;
  };
}

export interface IdleLoop {
  /** As watchLoop's answer. */
  take(): Promise<number>;
  stop(): void;
}

export async function startIdleLoop(): Promise<IdleLoop> {
  const child = fork(fileURLToPath(import.meta.url), [IDLE], { execArgv: process.execArgv });
  await once(child, 'message');
  return {
    async take() {
      child.send('take');
      const [delay] = (await once(child, 'message')) as [number];
      return delay;
    },
    stop: () => child.disconnect(),
  };
}

if (process.argv[2] === IDLE) {
  const take = watchLoop();
  process.on('message', () => process.send?.(take()));
  process.on('disconnect', () => process.exit());
  process.send?.('ready');
}
