/** The tunnel's three AEADs as native code has them, against the official vectors and against the reference code. */
import { execFileSync } from 'node:child_process';
import { randomBytes, randomInt } from 'node:crypto';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t, { type Test } from 'tap';
import { loadAddon } from '../../../../src/native/addon.ts';
import { aegisOpen, aegisSeal } from './reference-aegis.ts';
import { sealBody } from './reference-codec.ts';

const HERE = dirname(fileURLToPath(import.meta.url));
const CORE = join(HERE, '..', '..', '..', '..', 'src', 'native', 'tunnel');
const HEADERS = join(dirname(dirname(process.execPath)), 'include', 'node');
const GCM = 1;
const CHACHA = 2;
const AEGIS = 3;

interface Vector {
  readonly from: string;
  readonly aead: number;
  readonly key: string;
  readonly nonce: string;
  readonly aad: string;
  readonly text: string;
  readonly body: string;
  readonly tag: string;
}

const AEGIS_KEY = '10010000000000000000000000000000';
const AEGIS_NONCE = '10000200000000000000000000000000';
const ascending = (length: number, from = 0): string =>
  Buffer.from(Array.from({ length }, (_, index) => from + index)).toString('hex');
const aegis = (number: number, aad: string, text: string, body: string, tag: string): Vector => ({
  from: `draft-irtf-cfrg-aegis-aead, AEGIS-128L test vector ${number}`,
  ...{ aead: AEGIS, key: AEGIS_KEY, nonce: AEGIS_NONCE, aad, text, body, tag },
});

const VECTORS: readonly Vector[] = [
  aegis(1, '', '00'.repeat(16), 'c1c0e58bd913006feba00f4b3cc3594e', 'abe0ece80c24868a226a35d16bdae37a'),
  aegis(2, '', '', '', 'c2b879a67def9d74e6c14f708bbcc9b4'),
  aegis(
    3,
    ascending(8),
    ascending(32),
    '79d94593d8c2119d7e8fd9b8fc77845c5c077a05b2528b6ac54b563aed8efe84',
    'cc6f3372f6aa1bb82388d695c3962d9a',
  ),
  aegis(4, ascending(8), ascending(14), '79d94593d8c2119d7e8fd9b8fc77', '5c04b3dba849b2701effbe32c7f0fab7'),
  aegis(
    5,
    ascending(42),
    ascending(40, 16),
    'b31052ad1cca4e291abcf2df3502e6bdb1bfd6db36798be3607b1f94d34478aa7ede7f7a990fec10',
    '7542a745733014f9474417b337399507',
  ),
  {
    from: 'The Galois/Counter Mode of Operation (McGrew, Viega), test case 13',
    aead: GCM,
    key: '00'.repeat(32),
    nonce: '00'.repeat(12),
    aad: '',
    text: '',
    body: '',
    tag: '530f8afbc74536b9a963b4f1c4cb738b',
  },
  {
    from: 'The Galois/Counter Mode of Operation, test case 14',
    aead: GCM,
    key: '00'.repeat(32),
    nonce: '00'.repeat(12),
    aad: '',
    text: '00'.repeat(16),
    body: 'cea7403d4d606b6e074ec5d3baf39d18',
    tag: 'd0d1c8a799996bf0265b98b5d48ab919',
  },
  {
    from: 'The Galois/Counter Mode of Operation, test case 16',
    aead: GCM,
    key: 'feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308',
    nonce: 'cafebabefacedbaddecaf888',
    aad: 'feedfacedeadbeeffeedfacedeadbeefabaddad2',
    text: 'd9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a721c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39',
    body: '522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662',
    tag: '76fc6ece0f4e1768cddf8853bb2d551b',
  },
  {
    from: 'RFC 8439, section 2.8.2',
    aead: CHACHA,
    key: ascending(32, 0x80),
    nonce: '070000004041424344454647',
    aad: '50515253c0c1c2c3c4c5c6c7',
    text: Buffer.from(
      "Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, sunscreen would be it.",
    ).toString('hex'),
    body: 'd31a8d34648e60db7b86afbc53ef7ec2a4aded51296e08fea9e2b5a736ee62d63dbea45e8ca9671282fafb69da92728b1a71de0a9e060b2905d6a5b67ecd3b3692ddbd7f2d778b8c9803aee328091b58fab324e4fad675945585808b4831d7bc3ff4def08e4b7a9de576d26586cec64b6116',
    tag: '1ae10b594f09e26a7e902ecbd0600691',
  },
];

/** What shall not open: nonce, ciphertext, additional data and tag each changed (vectors 6 to 9 of the draft). */
const REFUSED = [
  [
    '10000100000000000000000000000000',
    ascending(8),
    '79d94593d8c2119d7e8fd9b8fc77',
    '5c04b3dba849b2701effbe32c7f0fab7',
  ],
  [AEGIS_NONCE, ascending(8), '79d94593d8c2119d7e8fd9b8fc78', '5c04b3dba849b2701effbe32c7f0fab7'],
  [AEGIS_NONCE, '0001020304050608', '79d94593d8c2119d7e8fd9b8fc77', '5c04b3dba849b2701effbe32c7f0fab7'],
  [AEGIS_NONCE, ascending(8), '79d94593d8c2119d7e8fd9b8fc77', '6c04b3dba849b2701effbe32c7f0fab8'],
] as const;

const hex = (bytes: string): string => (bytes === '' ? '-' : bytes);

function build(t: Test): (requests: readonly string[]) => readonly string[] {
  const directory = mkdtempSync(join(tmpdir(), 'arctic-aead-'));
  t.teardown(() => rmSync(directory, { recursive: true, force: true }));
  const program = join(directory, 'aead');
  const include = existsSync(HEADERS) ? [`-I${HEADERS}`] : [];
  const sources = [join(HERE, 'aead-program.cc'), join(CORE, 'aead.cc'), join(CORE, 'aegis128l.cc')];
  execFileSync('g++', ['-std=c++17', '-O1', ...include, ...sources, '-o', program, '-l:libcrypto.so.3']);
  return (requests) =>
    execFileSync(program, { input: requests.map((one) => `${one}\n`).join('') })
      .toString()
      .trimEnd()
      .split('\n');
}

t.test('official vectors and the reference code', async (t) => {
  const ask = build(t);
  const hasAegis = loadAddon().tunnelHasAegis() === 1;
  const usable = (aead: number): boolean => aead !== AEGIS || hasAegis;

  for (const { from, aead, key, nonce, aad, text, body, tag } of VECTORS) {
    if (aead === AEGIS) {
      const bytes = [key, nonce, aad, text].map((one) => Buffer.from(one, 'hex'));
      const [k = Buffer.alloc(0), n = Buffer.alloc(0), a = Buffer.alloc(0), m = Buffer.alloc(0)] = bytes;
      const reference = aegisSeal(k, n, a, m);
      t.equal(
        reference.body.toString('hex') + reference.tag.toString('hex'),
        body + tag,
        `reference, ${from}`,
      );
      t.ok(aegisOpen(k, n, a, reference.body, reference.tag)?.equals(m), `reference opens, ${from}`);
    }
    if (!usable(aead)) continue;
    const [sealed, opened] = ask([
      `seal ${aead} ${key} ${nonce} ${hex(aad)} ${hex(text)}`,
      `open ${aead} ${key} ${nonce} ${hex(aad)} ${body}${tag}`,
    ]);
    t.equal(sealed, body + tag, from);
    t.equal(opened, hex(text), `${from}, opened`);
  }
  for (const [nonce, aad, body, tag] of REFUSED) {
    const [k, n, a] = [AEGIS_KEY, nonce, aad].map((one) => Buffer.from(one, 'hex'));
    if (k && n && a)
      t.equal(aegisOpen(k, n, a, Buffer.from(body, 'hex'), Buffer.from(tag, 'hex')), undefined);
    if (hasAegis)
      t.strictSame(ask([`open ${AEGIS} ${AEGIS_KEY} ${nonce} ${aad} ${body}${tag}`]), ['refused']);
  }

  // Every length around the blocks of 32 bytes, then some of datagrams and frames.
  const lengths = [...Array(100).keys(), ...Array.from({ length: 20 }, () => randomInt(100, 1500)), 9_000];
  const cases = [GCM, CHACHA, AEGIS].filter(usable).flatMap((aead) =>
    lengths.map((length) => {
      const [key, nonce, aad] = [randomBytes(32), randomBytes(16), randomBytes(randomInt(0, 70))];
      return { aead, key, nonce, aad, text: randomBytes(length) };
    }),
  );
  const sealed = ask(
    cases.map(({ aead, key, nonce, aad, text }) =>
      ['seal', aead, ...[key, nonce, aad, text].map((bytes) => hex(bytes.toString('hex')))].join(' '),
    ),
  );
  const expected = cases.map(({ aead, key, nonce, aad, text }) => {
    const { body, tag } =
      aead === AEGIS
        ? aegisSeal(key, nonce, aad, text)
        : sealBody(aead === GCM ? 1 : 2, key, nonce.subarray(0, 12), aad, text);
    return Buffer.concat([body, tag]).toString('hex');
  });
  t.strictSame(sealed, expected, 'sealed as the reference seals');
  const spoilt = cases.map(({ aead, key, nonce, aad }, index) => {
    const bytes = Buffer.from(expected[index] ?? '', 'hex');
    const bit = randomInt(bytes.length * 8);
    bytes[bit >> 3] = (bytes[bit >> 3] ?? 0) ^ (1 << (bit & 7));
    return ['open', aead, ...[key, nonce, aad, bytes].map((one) => hex(one.toString('hex')))].join(' ');
  });
  t.ok(
    ask(spoilt).every((answer) => answer === 'refused'),
    'a single changed bit is refused',
  );
  const opened = ask(
    cases.map(({ aead, key, nonce, aad }, index) =>
      ['open', aead, ...[key, nonce, aad].map((one) => hex(one.toString('hex'))), expected[index]].join(' '),
    ),
  );
  t.strictSame(
    opened,
    cases.map(({ text }) => hex(text.toString('hex'))),
    'opened again',
  );
});
