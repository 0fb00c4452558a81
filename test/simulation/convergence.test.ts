import t from 'tap';
import { runScenario } from './scenario.ts';

/** `ARCTIC_SEED=17` repeats one life; `ARCTIC_LONG=1` runs a thousand. */
const only = process.env['ARCTIC_SEED'];
const count = process.env['ARCTIC_LONG'] === '1' ? 1_000 : 100;
const seeds = only === undefined ? Array.from({ length: count }, (_, i) => i + 1) : [Number(only)];

t.test(`${seeds.length} lives of small clusters end in agreement`, async (t) => {
  let writes = 0;
  const healed: number[] = [];
  for (const seed of seeds) {
    const outcome = runScenario(seed);
    writes += outcome.writes;
    healed.push(outcome.healedInMs);
    if (outcome.converged && outcome.lost.length === 0 && outcome.quarantines === 0) continue;
    t.fail(`seed ${seed}; repeat it with ARCTIC_SEED=${seed}`, {
      converged: outcome.converged,
      lost: outcome.lost,
      quarantines: outcome.quarantines,
      story: outcome.story,
    });
  }
  healed.sort((a, b) => a - b);
  t.comment(
    `${writes} writes; healed within ${healed.at(-1)} ms of virtual time, median ${healed[healed.length >> 1]} ms`,
  );
  t.ok(writes > seeds.length, 'the lives were not empty');
});
