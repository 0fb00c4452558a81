/**
 * Builds the KCP core without sockets with AddressSanitizer and UndefinedBehaviorSanitizer and lets it live under a virtual
 * clock: code and field against their definitions, flows over links that lose, reorder and repeat, members that say
 * anything, strangers. FUZZ_SECONDS and FUZZ_SEED set how long (CPU time) and from where.
 */
import { execFileSync } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t from 'tap';

const HERE = dirname(fileURLToPath(import.meta.url));
const NATIVE = join(HERE, '..', '..', 'src', 'native');
const HEADERS = join(dirname(dirname(process.execPath)), 'include', 'node');
const seconds = process.env['FUZZ_SECONDS'] ?? '5';
const seed = process.env['FUZZ_SEED'] ?? '1';

t.test('the core keeps to its memory and its promises', { timeout: 900_000 }, async (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'arctic-fuzz-'));
  t.teardown(() => rmSync(directory, { recursive: true, force: true }));
  const program = join(directory, 'core');
  const core = readdirSync(join(NATIVE, 'kcp')).filter(
    (name) => name.endsWith('.cc') && !name.startsWith('endpoint'),
  );
  execFileSync('g++', [
    '-std=c++17',
    '-g',
    '-O1',
    '-Wall',
    '-Wextra',
    '-Werror',
    '-D_GNU_SOURCE',
    '-fsanitize=address,undefined',
    '-fno-sanitize-recover=all',
    ...(existsSync(HEADERS) ? [`-I${HEADERS}`] : []),
    join(HERE, 'kcp', 'core.cc'),
    ...core.map((name) => join(NATIVE, 'kcp', name)),
    join(NATIVE, 'relay', 'link_keys.cc'),
    join(NATIVE, 'relay', 'frames.cc'),
    join(NATIVE, 'tunnel', 'aegis128l.cc'),
    '-o',
    program,
    '-l:libcrypto.so.3',
    '-lpthread',
  ]);
  t.match(execFileSync(program, [seconds, seed]).toString(), /^rounds [1-9]\d*, [1-9]\d* bytes carried/);
});
