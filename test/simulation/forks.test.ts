import t from 'tap';
import { runForkScenario } from './fork-scenario.ts';

/** `ARCTIC_SEED=17` repeats one life, with real keys; `ARCTIC_LONG=1` lives many more. */
const only = process.env['ARCTIC_SEED'];
const long = process.env['ARCTIC_LONG'] === '1';
t.setTimeout(long ? 7_200_000 : 600_000);

const live = (name: string, count: number, light: boolean): void => {
  t.test(`two histories of one origin${name}: found, cut everywhere, healed by a new identity`, async (t) => {
    const seeds = only === undefined ? Array.from({ length: count }, (_, i) => i + 1) : [Number(only)];
    let forked = 0;
    for (const seed of seeds) {
      const { story, ...outcome } = runForkScenario(seed, { light });
      if (outcome.announced > 0) forked += 1;
      if (outcome.agree && outcome.sound && outcome.healed && outcome.lost.length === 0) continue;
      t.fail(`seed ${seed}; repeat it with ARCTIC_SEED=${seed}`, { ...outcome, story });
    }
    t.comment(`${seeds.length} lives, in ${forked} of them both histories met`);
    t.ok(only !== undefined || forked > 0, 'forks were met');
  });
};

if (only === undefined) live('', long ? 2_000 : 60, true);
live(' with real keys', long ? 200 : 4, false);
