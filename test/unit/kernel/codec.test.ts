import { isDeepStrictEqual } from 'node:util';
import fc from 'fast-check';
import t from 'tap';
import {
  decodeAttributes,
  encodeAttributes,
  explainOffset,
  type Of,
  RAW,
  type Schema,
  UNKNOWN,
} from '../../../src/kernel/netlink/codec.ts';
import { NetlinkWriter } from '../../../src/kernel/netlink/writer.ts';
import { ruleSchema } from '../../../src/kernel/nft/schema.ts';

const schema = {
  byte: [1, 'u8'],
  half: [2, 'u16'],
  word: [3, 'u32'],
  signed: [4, 's32'],
  long: [5, 'u64'],
  bigHalf: [6, 'be16'],
  bigWord: [7, 'be32'],
  bigSigned: [8, 'sbe32'],
  bigLong: [9, 'be64'],
  text: [10, 'str'],
  bytes: [11, 'hex'],
  present: [12, 'flag'],
  inner: [13, 'nest', { a: [1, 'be32'], b: [2, 'str'] }],
  items: [14, 'list', [1, 'nest', { key: [1, 'hex'] }]],
  words: [15, 'list', [3, 'be32']],
  kind: [16, 'str'],
  detail: [17, 'choice', 'kind', { one: { x: [1, 'be32'] }, two: { y: [1, 'str'] } }],
} as const satisfies Schema;

function encode<S extends Schema>(schema: S, value: Of<S>): Buffer {
  const writer = new NetlinkWriter(8);
  encodeAttributes(writer, schema, value);
  return Buffer.from(writer.bytes);
}

const u32 = fc.integer({ min: 0, max: 0xffffffff });
const s32 = fc.integer({ min: -0x80000000, max: 0x7fffffff });
const u64 = fc.bigInt({ min: 0n, max: 0xffffffffffffffffn });
const text = fc
  .string({ unit: 'binary' })
  .filter((value) => !value.includes('\0') && Buffer.from(value).toString() === value);
const hex = fc.uint8Array({ maxLength: 40 }).map((bytes) => Buffer.from(bytes).toString('hex'));

const values = fc.record(
  {
    byte: fc.integer({ min: 0, max: 255 }),
    half: fc.integer({ min: 0, max: 65_535 }),
    word: u32,
    signed: s32,
    long: u64,
    bigHalf: fc.integer({ min: 0, max: 65_535 }),
    bigWord: u32,
    bigSigned: s32,
    bigLong: u64,
    text,
    bytes: hex,
    present: fc.constant(true as const),
    inner: fc.record({ a: u32, b: text }, { requiredKeys: [], noNullPrototype: true }),
    items: fc.array(fc.record({ key: hex }, { noNullPrototype: true })),
    words: fc.array(u32),
  },
  { requiredKeys: [], noNullPrototype: true },
);

const choices = fc.oneof(
  fc.record({ kind: fc.constant('one'), detail: fc.record({ x: u32 }, { noNullPrototype: true }) }),
  fc.record({ kind: fc.constant('two'), detail: fc.record({ y: text }, { noNullPrototype: true }) }),
);

t.test('what is encoded is decoded', async (t) => {
  fc.assert(
    fc.property(values, choices, (value, choice) => {
      const whole = { ...value, ...choice };
      return isDeepStrictEqual(decodeAttributes(schema, encode(schema, whole)), whole);
    }),
    { numRuns: 1000 },
  );
  t.pass();
});

t.test('any bytes decode without an exception or a read past their end', async (t) => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 300 }), (bytes) => {
      decodeAttributes(schema, Buffer.from(bytes));
      explainOffset(schema, Buffer.from(bytes), 0, bytes.length, bytes.length >> 1);
    }),
    { numRuns: 2000 },
  );
  fc.assert(
    fc.property(values, fc.nat(), fc.nat({ max: 255 }), (value, at, byte) => {
      const bytes = encode(schema, value);
      if (bytes.length > 0) bytes.writeUInt8(byte, at % bytes.length);
      decodeAttributes(schema, bytes);
    }),
    { numRuns: 2000 },
  );
  t.pass();
});

t.test('bytes of each scalar', async (t) => {
  // Little-endian hosts; nf_tables integers are big-endian everywhere.
  t.equal(encode(schema, { bigWord: 0x01020304 }).toString('hex'), '0800070001020304');
  t.equal(encode(schema, { word: 0x01020304 }).toString('hex'), '0800030004030201');
  t.equal(encode(schema, { bigSigned: -150 }).toString('hex'), '08000800ffffff6a');
  t.equal(encode(schema, { byte: 5 }).toString('hex'), '0500010005000000');
  t.equal(encode(schema, { text: 'arctic' }).toString('hex'), '0b000a006172637469630000');
  t.equal(encode(schema, { present: true }).toString('hex'), '04000c00');
  t.equal(encode(schema, { inner: { a: 1 } }).toString('hex'), '0c000d800800010000000001');
});

t.test('a name or value the schema does not have is an exception, not silence', async (t) => {
  const wrong: [Record<string, unknown>, RegExp][] = [
    [{ wrod: 1 }, /unknown attribute wrod/],
    [{ inner: { c: 1 } }, /unknown attribute inner\.c/],
    [{ items: [{ key: '00' }, { kee: '00' }] }, /items\[1\]\.kee/],
    [{ word: '1' }, /word must be an integer/],
    [{ word: 1.5 }, /word must be an integer/],
    [{ long: 1 }, /long must be a bigint/],
    [{ text: 'a\0b' }, /text must be text/],
    [{ bytes: 'abc' }, /bytes must be hex/],
    [{ items: 1 }, /items must be a list/],
    [{ kind: 'three', detail: {} }, /detail has no schema for three/],
  ];
  for (const [value, message] of wrong)
    t.throws(() => encode(schema, value as Of<typeof schema>), { message });
  t.throws(() => encode(schema, { bytes: '00'.repeat(70_000) }), RangeError);
  t.throws(() => encode(schema, { words: Array.from({ length: 9000 }, () => 1) }), /65535/);
});

t.test('what a newer kernel adds is kept', async (t) => {
  const bytes = Buffer.concat([encode(schema, { byte: 1 }), Buffer.from('0800630011223344', 'hex')]);
  t.strictSame(decodeAttributes(schema, bytes) as unknown, { byte: 1, [UNKNOWN]: { 99: '11223344' } });
  const newer = { kind: [16, 'str'], detail: [17, 'nest', { z: [1, 'be32'] }] } as const satisfies Schema;
  t.strictSame(decodeAttributes(schema, encode(newer, { kind: 'new', detail: { z: 1 } })) as unknown, {
    kind: 'new',
    detail: { [RAW]: '0800010000000001' },
  });
});

t.test('an error offset is explained by the path of names', async (t) => {
  const rule = encode(ruleSchema, {
    table: 'arctic',
    chain: 'apply',
    expressions: [
      { name: 'meta', data: { dreg: 1, key: 16 } },
      { name: 'lookup', data: { set: 'm4', sreg: 1 } },
    ],
  });
  const at = (needle: string, from = 0) => rule.indexOf(Buffer.from(needle, 'hex'), from);
  const explain = (offset: number) => explainOffset(ruleSchema, rule, 0, rule.length, offset);
  t.equal(explain(0), 'table');
  t.equal(explain(12), 'chain');
  const list = at('0480', 16) - 2;
  t.equal(explain(list), 'expressions');
  t.equal(explain(list + 4), 'expressions[0]');
  t.equal(explain(at('070001006d340000')), 'expressions[1].data.set');
  t.equal(explain(rule.length + 8), undefined);
  t.equal(explainOffset(schema, Buffer.from('0800630011223344', 'hex'), 0, 8, 0), 'attribute 99');
});
