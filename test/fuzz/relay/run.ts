/**
 * Fuzzes the native relay under AddressSanitizer and UndefinedBehaviorSanitizer for as long as one likes:
 * `node --import=tsx test/fuzz/relay/run.ts [seconds each] [seed]`. With clang it is libFuzzer from the kept corpus; what it
 * finds new stays in a directory that is named at the end, and a crash beside it.
 */
import { execFileSync } from 'node:child_process';
import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { ASSOCIATIONS, corpusOf, createBuilder, DECODERS, hasClang, RELAY } from './build.ts';

const [seconds = '10', seed = '1'] = process.argv.slice(2);
const libfuzzer = hasClang();
const builder = createBuilder();
const found = mkdtempSync(join(tmpdir(), 'arctic-corpus-'));
try {
  for (const [name, sources] of [
    ['decode', DECODERS],
    ['kcp', ASSOCIATIONS],
    ['link', RELAY],
  ] as const) {
    if (libfuzzer) {
      const program = builder.program(name, [`${name}.cc`], sources, { libfuzzer });
      const kept = dirname(corpusOf(name)[0] ?? '.');
      const options = [`-max_total_time=${seconds}`, `-seed=${seed}`, '-max_len=4096', '-timeout=20'];
      execFileSync(program, [...options, `-artifact_prefix=${found}/`, '-print_final_stats=1', found, kept], {
        stdio: 'inherit',
      });
    } else {
      const program = builder.program(name, [`${name}.cc`, 'driver.cc'], sources);
      console.log(
        `${name}: ${execFileSync(program, [seconds, seed, ...corpusOf(name)], { encoding: 'utf8' }).trim()}`,
      );
    }
  }
  const hostile = builder.program('hostile-peer', ['hostile-peer.cc'], RELAY);
  console.log(`hostile-peer: ${execFileSync(hostile, [seconds, seed], { encoding: 'utf8' }).trim()}`);
  if (libfuzzer) console.log(`new inputs: ${found}`);
} finally {
  builder.remove();
}
