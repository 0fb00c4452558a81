/**
 * Builds the tunnel's core with AddressSanitizer and UndefinedBehaviorSanitizer, lets it mutate datagrams, frames, policies and
 * snapshots, and reads what it writes with the reference codec; and both threads with ThreadSanitizer. FUZZ_SECONDS and FUZZ_SEED set how long and from where.
 */
import { execFileSync } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t, { type Test } from 'tap';
import { loadAddon } from '../../src/native/addon.ts';
import { aegisSeal } from '../unit/engines/iptun/reference-aegis.ts';
import { decodeRecords, nonceOf, sealBody } from '../unit/engines/iptun/reference-codec.ts';

const HERE = dirname(fileURLToPath(import.meta.url));
const CORE = join(HERE, '..', '..', 'src', 'native', 'tunnel');
const HEADERS = join(dirname(dirname(process.execPath)), 'include', 'node');
const seconds = process.env['FUZZ_SECONDS'] ?? '5';
const seed = process.env['FUZZ_SEED'] ?? '1';

function build(t: Test, name: string, sanitizers: string, parts: readonly string[]): string {
  const directory = mkdtempSync(join(tmpdir(), 'arctic-fuzz-'));
  t.teardown(() => rmSync(directory, { recursive: true, force: true }));
  const program = join(directory, name);
  execFileSync('g++', [
    '-std=c++17',
    '-g',
    '-O1',
    '-Wall',
    '-Wextra',
    '-D_GNU_SOURCE',
    `-fsanitize=${sanitizers}`,
    '-fno-sanitize-recover=all',
    ...(existsSync(HEADERS) ? [`-I${HEADERS}`] : []),
    join(HERE, `${name}.cc`),
    ...parts.map((part) => join(CORE, `${part}.cc`)),
    '-o',
    program,
    '-l:libcrypto.so.3',
    '-lpthread',
  ]);
  return program;
}

const PARTS = ['aead', 'aegis128l', 'datagram', 'packet', 'policy', 'table'];

t.test('tables change under traffic without a data race', { timeout: 600_000 }, async (t) => {
  const program = build(t, 'tunnel-threads', 'thread', [...PARTS, 'loop', 'egress', 'ingress']);
  // ThreadSanitizer of older compilers does not start under full address space randomisation.
  t.match(execFileSync('setarch', ['-R', program, seconds]).toString(), /received [1-9]/);
});

t.test('the core keeps to its memory and its format', { timeout: 600_000 }, async (t) => {
  const program = build(t, 'tunnel-core', 'address,undefined', PARTS);
  const output = execFileSync(program, [seconds, seed], { maxBuffer: 64 << 20 }).toString();
  const lines = output.split('\n').map((line) => line.split(' '));

  const texts = lines.filter(([kind]) => kind === 'text');
  t.equal(texts.length, 20);
  for (const [, hex = ''] of texts)
    t.ok(decodeRecords(Buffer.from(hex, 'hex')).every(({ needsChecksum }) => needsChecksum));

  const key = Buffer.from(Array.from({ length: 32 }, (_, index) => index));
  const sealed = lines.filter(([kind]) => kind === 'sealed');
  t.equal(sealed.length, loadAddon().tunnelHasAegis() === 1 ? 15 : 10);
  for (const [, aead, length, hex] of sealed) {
    const text = Buffer.from(Array.from({ length: Number(length) }, (_, index) => index & 0xff));
    const additional = Buffer.alloc(16, 3);
    const { body, tag } =
      aead === '3'
        ? aegisSeal(key, Buffer.concat([Buffer.alloc(4), nonceOf(7n)]), additional, text)
        : sealBody(aead === '1' ? 1 : 2, key, nonceOf(7n), additional, text);
    t.equal(hex, Buffer.concat([body, tag]).toString('hex'), `AEAD ${aead}, ${length} bytes`);
  }
  t.match(output, /^rounds [1-9]\d*$/m);
});
