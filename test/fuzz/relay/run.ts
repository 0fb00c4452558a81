/**
 * Builds the native relay without N-API under AddressSanitizer and UndefinedBehaviorSanitizer and lets the fuzzers
 * at it: `node --import=tsx test/fuzz/relay/run.ts [seconds] [seed]`, 10 seconds each unless told otherwise. Needs g++
 * and libcrypto (libssl-dev). With clang, `decode.cc` is a libFuzzer target as it is (-fsanitize=fuzzer, no driver).
 */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const here = dirname(fileURLToPath(import.meta.url));
const native = join(here, '..', '..', '..', 'src', 'native');
const [seconds = '10', seed = '1'] = process.argv.slice(2);
const flags = [
  '-std=c++17',
  '-g',
  '-O1',
  '-Wall',
  '-Wextra',
  '-Werror',
  '-D_GNU_SOURCE',
  '-fsanitize=address,undefined',
  '-fno-sanitize-recover=undefined',
  '-fno-omit-frame-pointer',
  // The OpenSSL headers of this node, as the add-on is built with.
  `-I${join(dirname(dirname(process.execPath)), 'include', 'node')}`,
];
const sources = ['relay', 'kcp'].flatMap((room) =>
  readdirSync(join(native, room))
    .filter((name) => name.endsWith('.cc') && name !== 'binding.cc')
    .map((name) => join(native, room, name)),
);
const directory = mkdtempSync(join(tmpdir(), 'arctic-fuzz-'));
try {
  const objects = sources.map((source, index) => {
    const object = join(directory, `${index}.o`);
    execFileSync('g++', [...flags, '-c', source, '-o', object], { stdio: 'inherit' });
    return object;
  });
  for (const [name, ...files] of [
    ['decode', 'decode.cc', 'driver.cc'],
    ['hostile-peer', 'hostile-peer.cc'],
  ] as const) {
    const program = join(directory, name);
    const inputs = files.map((file) => join(here, file));
    execFileSync('g++', [...flags, ...inputs, ...objects, '-lcrypto', '-pthread', '-o', program], {
      stdio: 'inherit',
    });
    console.log(`${name}: ${execFileSync(program, [seconds, seed], { encoding: 'utf8' }).trim()}`);
  }
} finally {
  rmSync(directory, { recursive: true, force: true });
}
