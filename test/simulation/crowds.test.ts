import t from 'tap';
import { runCrowdLife } from './crowd-life.ts';

/** `ARCTIC_SEED=17 ARCTIC_HOSTS=1000` repeats one life; `ARCTIC_LONG=1` lives those of 200 and 1,000 hosts (1.5 GB, minutes each). */
const only = process.env['ARCTIC_SEED'];
const long = process.env['ARCTIC_LONG'] === '1';
const LIVES: readonly (readonly [hosts: number, lives: number])[] =
  only !== undefined
    ? [[Number(process.env['ARCTIC_HOSTS'] ?? 50), 1]]
    : long
      ? [
          [50, 50],
          [200, 20],
          [1_000, 2],
        ]
      : [[50, 2]];
t.setTimeout(14_400_000);

for (const [hosts, lives] of LIVES) {
  t.test(`crowds of ${hosts} hosts end in agreement`, async (t) => {
    let slowest = 0;
    let writes = 0;
    for (let i = 0; i < lives; i += 1) {
      const seed = only === undefined ? i + 1 : Number(only);
      const { story, ...outcome } = runCrowdLife(hosts, seed);
      slowest = Math.max(slowest, outcome.healedInMs);
      writes += outcome.writes;
      if (outcome.converged && outcome.wrong.length === 0) continue;
      t.fail(`seed ${seed}; repeat it with ARCTIC_SEED=${seed} ARCTIC_HOSTS=${hosts}`, { ...outcome, story });
    }
    t.comment(
      `${lives} lives, ${writes} writes; the slowest healed within ${slowest} ms of virtual time after peace`,
    );
    t.ok(writes > 0);
  });
}
