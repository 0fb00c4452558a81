/** `node --import=tsx ops/lab/remove.ts`: removes labs left standing by `--keep`, and those whose owner died. */
import { keptLabs, removeLab, sweepDeadLabs } from './namespaces.ts';

const kept = keptLabs();
for (const lab of kept) removeLab(lab);
for (const name of [...kept.map((lab) => lab.prefix), ...sweepDeadLabs()])
  process.stdout.write(`removed ${name}\n`);
