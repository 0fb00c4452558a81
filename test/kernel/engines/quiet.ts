import { until } from '../../unit/engines/tproxy/stream-ends.ts';
import type { Lab } from './lab.ts';

/** Flows of all services on both hosts. */
async function activeFlows(lab: Lab): Promise<number> {
  let count = 0;
  for (const host of [lab.entry, lab.exit]) {
    for (const { entry, exit } of Object.values((await host.stats()).services)) {
      count += entry.active + exit.active;
    }
  }
  return count;
}

export const whenQuiet = (lab: Lab): Promise<void> =>
  until(async () => (await activeFlows(lab)) === 0, 'no flow is left');
