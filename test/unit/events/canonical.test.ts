import { isDeepStrictEqual } from 'node:util';
import canonicalize from 'canonicalize';
import fc from 'fast-check';
import t from 'tap';
import { canonicalJson, eventPreimage, type HashedFields, parsedCopy } from '../../../events/canonical.ts';

const serialize = canonicalize as unknown as (value: unknown) => string | undefined;
const text = fc.string({ unit: 'binary' });

t.test('the preimage assembled by hand is the canonical JSON of the whole', async (t) => {
  const fields = fc.record({
    id: text,
    origin: text,
    stream: fc.constantFrom('config', 'local'),
    seq: fc.integer({ min: 1, max: Number.MAX_SAFE_INTEGER }),
    hlc: text,
    type: text,
    version: fc.integer({ min: 1, max: 65_535 }),
    entity: text,
    actor: fc.record({
      kind: fc.constantFrom('client', 'recovery', 'peer', 'system'),
      id: fc.option(text),
      address: fc.option(text),
    }),
    correlation_id: text,
    prev_hash: text,
  });
  const data = fc.dictionary(text, fc.jsonValue({ maxDepth: 4, stringUnit: 'binary' }), {
    noNullPrototype: true,
  });
  fc.assert(
    fc.property(fields, data, (event, data) => {
      const whole = serialize({ ...event, data });
      return eventPreimage(event as unknown as HashedFields, canonicalJson(data)) === whole;
    }),
  );
  t.pass('for any fields and data');
});

t.test('canonical JSON does not depend on the order of keys and survives parsing', async (t) => {
  fc.assert(
    fc.property(fc.jsonValue({ maxDepth: 5, stringUnit: 'binary' }), (value) => {
      const once = canonicalJson(value);
      return canonicalJson(JSON.parse(once)) === once && once === serialize(value);
    }),
  );
  t.equal(canonicalJson({ b: 1, a: { d: -0, c: 1e21 } }), canonicalJson({ a: { c: 1e21, d: 0 }, b: 1 }));
});

t.test('the copy of a value is what parsing its canonical JSON gives', async (t) => {
  const anything = fc.jsonValue({ maxDepth: 5, stringUnit: 'binary' });
  const awkward = fc.constantFrom(
    -0,
    [-0],
    { a: undefined, b: 1 },
    JSON.parse('{"__proto__":{"x":1},"10":1,"9":2}'),
    Object.assign(Object.create(null), { b: 1, a: 2 }),
    Object.fromEntries(Array.from({ length: 40 }, (_, n) => [`k${(n * 7) % 40}`, n])),
  );
  fc.assert(
    fc.property(fc.oneof(anything, awkward), (value) => {
      const text = canonicalJson(value);
      const copy = parsedCopy(value);
      // Compared as values: JSON.stringify alone would not see a negative zero or a changed prototype.
      return (
        isDeepStrictEqual(copy, JSON.parse(text)) && JSON.stringify(copy) === JSON.stringify(JSON.parse(text))
      );
    }),
  );
  const given = { list: [{ a: 1 }] };
  const copy = parsedCopy(given) as typeof given;
  given.list.push({ a: 2 });
  t.same(copy, { list: [{ a: 1 }] });
});

t.test('a text that spells a surrogate out is no unpaired surrogate', async (t) => {
  const spelt = { '\\ud800': 'C:\\udev' };
  t.same(JSON.parse(canonicalJson(spelt)), spelt);
  for (const value of [{ a: 'x\ud800' }, { '\udfff': 1 }, ['\udc00\ud800']])
    t.throws(() => canonicalJson(value), { code: 'INVALID_REQUEST', message: /unpaired surrogate/ });
  t.equal(canonicalJson({ a: '\u{1f600}' }), '{"a":"\u{1f600}"}');
});

t.test('RFC 8785 section 3.2.2 example', async (t) => {
  const value = {
    numbers: JSON.parse('[333333333.33333329, 1e30, 4.5, 2e-3, 0.000000000000000000000000001]'),
    string: '\u20ac$\u000F\u000aA\'\u0042\u0022\u005c\\"/',
    literals: [null, true, false],
  };
  t.equal(
    canonicalJson(value),
    '{"literals":[null,true,false],"numbers":[333333333.3333333,1e+30,4.5,0.002,1e-27],"string":"€$\\u000f\\nA\'B\\"\\\\\\\\\\"/"}',
  );
});

t.test('what JSON cannot carry is refused with its place', async (t) => {
  const deep = Array.from({ length: 40 }).reduce<unknown>((inner) => [inner], 1);
  for (const [value, pointer] of [
    [{ a: Number.NaN }, '/a'],
    [{ a: [1, Number.POSITIVE_INFINITY] }, '/a/1'],
    [{ a: '\ud800' }, '/a'],
    [{ '\udc00': 1 }, '/\udc00'],
    [{ 'x/y': 1n }, '/x~1y'],
    [[undefined], '/0'],
    [{ a: () => 1 }, '/a'],
    [{ a: new Date(0) }, '/a'],
  ] as const) {
    t.throws(() => canonicalJson(value), { code: 'INVALID_REQUEST', details: [{ pointer }] });
  }
  t.throws(() => canonicalJson(deep), { code: 'INVALID_REQUEST' });
  t.equal(canonicalJson({ a: undefined, b: 'a\\ud800' }), '{"b":"a\\\\ud800"}');
});
