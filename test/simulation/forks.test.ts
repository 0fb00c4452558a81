import t from 'tap';
import { runForkScenario } from './fork-scenario.ts';

/** `ARCTIC_SEED=17` repeats one life; `ARCTIC_LONG=1` runs a thousand. Otherwise as many as fit into the time, at least ten. */
const only = process.env['ARCTIC_SEED'];
const long = process.env['ARCTIC_LONG'] === '1';
const BUDGET_MS = 6_000;
const LEAST = 10;
t.setTimeout(long ? 7_200_000 : 600_000);

t.test(
  'two histories of one origin: found, cut at the fork everywhere, healed by a new identity',
  async (t) => {
    const seeds = only === undefined ? Array.from({ length: 1_000 }, (_, i) => i + 1) : [Number(only)];
    const startedAt = performance.now();
    let lived = 0;
    let forked = 0;
    for (const seed of seeds) {
      if (!long && lived >= LEAST && performance.now() - startedAt > BUDGET_MS) break;
      lived += 1;
      const { story, ...outcome } = runForkScenario(seed);
      if (outcome.announced > 0) forked += 1;
      if (outcome.agree && outcome.sound && outcome.healed && outcome.lost.length === 0) continue;
      t.fail(`seed ${seed}; repeat it with ARCTIC_SEED=${seed}`, { ...outcome, story });
    }
    t.comment(`${lived} lives, in ${forked} of them both histories met`);
    t.ok(only !== undefined || forked > 0, 'forks were met');
  },
);
