/**
 * Builds the tunnel's core with AddressSanitizer and UndefinedBehaviorSanitizer, lets it mutate datagrams, frames, policies and
 * snapshots, and reads what it writes with the reference codec; lets libFuzzer do so where there is clang; and both threads with
 * ThreadSanitizer. FUZZ_SECONDS and FUZZ_SEED set how long and from where.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t, { type Test } from 'tap';
import { encodeSnapshot } from '../../src/engines/iptun/snapshot.ts';
import { loadAddon } from '../../src/native/addon.ts';
import { aegisSeal } from '../unit/engines/iptun/reference-aegis.ts';
import { decodeRecords, encodeRecords, nonceOf, sealBody } from '../unit/engines/iptun/reference-codec.ts';

const HERE = dirname(fileURLToPath(import.meta.url));
const CORE = join(HERE, '..', '..', 'src', 'native', 'tunnel');
const HEADERS = join(dirname(dirname(process.execPath)), 'include', 'node');
const seconds = process.env['FUZZ_SECONDS'] ?? '5';
const seed = process.env['FUZZ_SEED'] ?? '1';

function build(
  t: Test,
  name: string,
  sanitizers: string,
  parts: readonly string[],
  compiler = 'g++',
): string {
  const directory = mkdtempSync(join(tmpdir(), 'arctic-fuzz-'));
  t.teardown(() => rmSync(directory, { recursive: true, force: true }));
  const program = join(directory, name);
  execFileSync(compiler, [
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

/** One packet of 12 bytes over TCP, an IPv4 header before it. */
function tcpPacket(sequence: number, payload: number): Buffer {
  const packet = Buffer.alloc(40 + payload);
  packet.writeUInt8(0x45, 0);
  packet.writeUInt16BE(packet.length, 2);
  packet.writeUInt8(64, 8);
  packet.writeUInt8(6, 9);
  packet.writeUInt32BE(0x0a000001, 12);
  packet.writeUInt32BE(0x0a000002, 16);
  packet.writeUInt32BE(sequence, 24);
  packet.writeUInt8(0x50, 32);
  packet.writeUInt8(0x10, 33);
  return packet;
}

/** What libFuzzer starts from, one of each kind. */
function seeds(): readonly Buffer[] {
  const records = [0, 100, 200].map((sequence) => ({
    needsChecksum: true,
    packet: tcpPacket(sequence, 100),
  }));
  const header = Buffer.from([1, 1, 40, 0, 200, 0, 20, 0, 16, 0]);
  const key = new Uint8Array(32);
  const snapshot = encodeSnapshot([
    {
      ...{ id: 1, tun: undefined, policy: 1, largestDatagram: 1_472 },
      endpoint: { address: '192.0.2.1', port: 51_840, token: 1 },
      send: { id: 1, index: 7, aead: 1, key, aegis: key },
      receive: [{ id: 2, index: 8, aes: key, chacha: key, aegis: key }],
      limits: [{ service: 1, bitsPerSecond: 1_000_000 }],
    },
  ]);
  const policy = Buffer.alloc(16);
  policy.writeUInt32LE(1, 0);
  const lengths = Buffer.from(Array.from({ length: 300 }, (_, index) => (index * 37) & 0xff));
  const frame = Buffer.concat([header, tcpPacket(0, 1_000)]);
  return [encodeRecords(records), frame, snapshot, policy, lengths].map((bytes, kind) =>
    Buffer.concat([Buffer.of(kind), bytes]),
  );
}

const hasClang = spawnSync('clang++', ['--version']).status === 0;

t.test('libFuzzer finds nothing', { timeout: 600_000 }, async (t) => {
  if (!hasClang) {
    t.comment('no clang++ here: only our own mutations above were tried');
    return;
  }
  const program = build(t, 'tunnel-libfuzzer', 'fuzzer,address,undefined', PARTS, 'clang++');
  const corpus = join(dirname(program), 'corpus');
  mkdirSync(corpus);
  for (const [index, bytes] of seeds().entries()) writeFileSync(join(corpus, `seed-${index}`), bytes);
  const limits = [`-max_total_time=${seconds}`, `-seed=${seed}`, '-max_len=8192', '-print_final_stats=1'];
  const { status, stderr } = spawnSync(program, [...limits, `-artifact_prefix=${corpus}/`, corpus], {
    maxBuffer: 64 << 20,
  });
  t.equal(status, 0, stderr.toString().slice(-4_000));
  t.match(stderr.toString(), /number_of_executed_units: [1-9]/);
});
