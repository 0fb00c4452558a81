import t from 'tap';
import { runScenario } from './scenario.ts';

/** `ARCTIC_SEED=17` repeats one life; `ARCTIC_LONG=1` runs a thousand, and a hundred of larger clusters. */
const only = process.env['ARCTIC_SEED'];
const long = process.env['ARCTIC_LONG'] === '1';
const seeds =
  only === undefined ? Array.from({ length: long ? 1_000 : 100 }, (_, i) => i + 1) : [Number(only)];
const BATCH = 20;

function lives(name: string, batch: readonly number[], mostHosts: number): void {
  t.test(name, async (t) => {
    let writes = 0;
    let slowest = 0;
    for (const seed of batch) {
      const outcome = runScenario(seed, mostHosts);
      writes += outcome.writes;
      slowest = Math.max(slowest, outcome.healedInMs);
      if (outcome.converged && outcome.lost.length === 0 && outcome.quarantines === 0) continue;
      t.fail(`seed ${seed}; repeat it with ARCTIC_SEED=${seed}`, {
        converged: outcome.converged,
        lost: outcome.lost,
        quarantines: outcome.quarantines,
        story: outcome.story,
      });
    }
    t.comment(`${writes} writes; the slowest healed within ${slowest} ms of virtual time`);
    t.ok(writes >= batch.length, 'the lives were not empty');
  });
}

for (let i = 0; i < seeds.length; i += BATCH) {
  const batch = seeds.slice(i, i + BATCH);
  lives(`seeds ${batch[0]} to ${batch.at(-1)}: clusters of 2 to 5 end in agreement`, batch, 5);
}
if (long) {
  for (let i = 10_000; i < 10_100; i += BATCH) {
    const batch = Array.from({ length: BATCH }, (_, j) => i + j);
    lives(`seeds ${batch[0]} to ${batch.at(-1)}: clusters of 2 to 15 end in agreement`, batch, 15);
  }
}
