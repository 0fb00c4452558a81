import t from 'tap';
import { runScenario } from './scenario.ts';

/**
 * `ARCTIC_SEED=17` repeats one life; `ARCTIC_LONG=1` runs a thousand and a hundred of larger clusters. Otherwise as many as fit
 * into the time, at least the first twenty.
 */
const only = process.env['ARCTIC_SEED'];
const long = process.env['ARCTIC_LONG'] === '1';
const BUDGET_MS = 30_000;
const LEAST = 20;
t.setTimeout(long ? 7_200_000 : 600_000);

function lives(name: string, seeds: readonly number[], mostHosts: number, budgetMs: number): void {
  t.test(name, async (t) => {
    const startedAt = performance.now();
    let writes = 0;
    let slowest = 0;
    let lived = 0;
    for (const seed of seeds) {
      if (lived >= LEAST && performance.now() - startedAt > budgetMs) break;
      lived += 1;
      const outcome = runScenario(seed, mostHosts);
      writes += outcome.writes;
      slowest = Math.max(slowest, outcome.healedInMs);
      const { converged, lost, quarantines, unexplained, story } = outcome;
      if (converged && lost.length === 0 && quarantines === 0 && unexplained === 0) continue;
      t.fail(`seed ${seed}; repeat it with ARCTIC_SEED=${seed}`, {
        converged,
        lost,
        quarantines,
        unexplained,
        story,
      });
    }
    t.comment(
      `${lived} lives, ${writes} writes; the slowest healed within ${slowest} ms of virtual time after peace`,
    );
    t.ok(writes >= lived, 'the lives were not empty');
  });
}

const range = (from: number, count: number) => Array.from({ length: count }, (_, i) => from + i);
if (only !== undefined)
  lives(`seed ${only}`, [Number(only)], Number(only) >= 10_000 ? 15 : 5, Number.POSITIVE_INFINITY);
else
  lives(
    'clusters of 2 to 5 end in agreement',
    range(1, 1_000),
    5,
    long ? Number.POSITIVE_INFINITY : BUDGET_MS,
  );
if (long && only === undefined)
  lives('clusters of 2 to 15 end in agreement', range(10_000, 100), 15, Number.POSITIVE_INFINITY);
