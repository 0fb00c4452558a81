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
    const met = new Map<string, number>();
    for (let i = 0; i < lives; i += 1) {
      const seed = only === undefined ? i + 1 : Number(only);
      const { story, ...outcome } = runCrowdLife(hosts, seed);
      if (only !== undefined) t.comment([...story, `writes ${outcome.writes}`].join('; '));
      slowest = Math.max(slowest, outcome.healedInMs);
      writes += outcome.writes;
      for (const line of story) {
        const kind = line
          .replace(/^\d+ /, '')
          .replace(/^\d+ hosts/, 'hosts')
          .replace(/ before host \d+/, '');
        met.set(kind, (met.get(kind) ?? 0) + 1);
      }
      if (outcome.converged && outcome.wrong.length === 0) continue;
      t.fail(`seed ${seed}; repeat it with ARCTIC_SEED=${seed} ARCTIC_HOSTS=${hosts}`, { ...outcome, story });
    }
    t.comment(
      `${lives} lives, ${writes} writes; the slowest healed within ${slowest} ms of virtual time after peace`,
    );
    t.comment([...met].map(([kind, times]) => `${kind}: ${times}`).join(', '));
    t.ok(writes > 0);
  });
}
