// Preloaded into an agent (`node --import`): on SIGCONT, which means nothing else to a program that runs, it writes the 99th
// percentile of the event loop's delay since the last time, in ms, into LOOP_METER.<pid>. The agent's own meter is coarser, so
// that it costs little at rest.
import { renameSync, writeFileSync } from 'node:fs';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { isMainThread } from 'node:worker_threads';

if (isMainThread) {
  const delay = monitorEventLoopDelay({ resolution: 10 });
  delay.enable();
  const path = `${process.env.LOOP_METER}.${process.pid}`;
  process.on('SIGCONT', () => {
    writeFileSync(`${path}.new`, String(delay.percentile(99) / 1e6));
    renameSync(`${path}.new`, path);
    delay.reset();
  });
}
