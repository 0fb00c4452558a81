/**
 * Fuzzes the tunnel's core under AddressSanitizer and UndefinedBehaviorSanitizer for as long as one likes, by libFuzzer from the
 * kept corpus: `node --import=tsx test/fuzz/tunnel/run.ts [seconds] [seed]`; needs clang. Of what it finds, the inputs that reach
 * code which no kept one does are put beside those, the fewest that do; a crash stays in a directory that is named.
 */
import { execFileSync } from 'node:child_process';
import { copyFileSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { CORE, CORPUS, corpus, createBuilder } from './build.ts';

const [seconds = '10', seed = '1'] = process.argv.slice(2);
const builder = createBuilder();
const directory = (name: string): string => mkdtempSync(join(tmpdir(), `arctic-${name}-`));
const [found, fewest, crashes] = [directory('found'), directory('fewest'), directory('crashes')];
try {
  const program = builder.program('fuzzer', ['inputs.cc'], 'fuzzer,address,undefined', CORE);
  const libfuzzer = (...argv: readonly string[]): void => {
    execFileSync(program, [`-artifact_prefix=${crashes}/`, ...argv], { stdio: 'inherit' });
  };
  libfuzzer(
    ...[
      `-max_total_time=${seconds}`,
      `-seed=${seed}`,
      '-max_len=4096',
      '-timeout=20',
      '-print_final_stats=1',
    ],
    ...[found, CORPUS],
  );
  const kept = corpus().map((path, index) => ({ path, name: `kept-${index}` }));
  for (const { path, name } of kept) copyFileSync(path, join(fewest, name));
  // How often an edge was passed makes no input worth keeping.
  libfuzzer('-merge=1', '-use_counters=0', fewest, found);
  const fresh = readdirSync(fewest).filter((name) => !kept.some((one) => one.name === name));
  for (const name of fresh) copyFileSync(join(fewest, name), join(CORPUS, `found-${name.slice(0, 10)}`));
  console.log(`${fresh.length} new inputs in ${CORPUS}`);
  rmSync(crashes, { recursive: true });
} catch (error) {
  console.log(`what it stopped at: ${crashes}`);
  throw error;
} finally {
  builder.remove();
  for (const one of [found, fewest]) rmSync(one, { recursive: true, force: true });
}
