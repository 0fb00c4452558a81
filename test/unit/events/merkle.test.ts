import { createHash } from 'node:crypto';
import fc from 'fast-check';
import t from 'tap';
import {
  decodeFrontier,
  EMPTY_FRONTIER,
  encodeFrontier,
  extend,
  type Frontier,
  rootOf,
} from '../../../events/merkle.ts';

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');

t.test('the roots of the reference tree of Certificate Transparency', async (t) => {
  const entries = [
    '',
    '00',
    '10',
    '2021',
    '3031',
    '40414243',
    '5051525354555657',
    '606162636465666768696a6b6c6d6e6f',
  ];
  const roots = [
    '6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d',
    'fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125',
    'aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77',
    'd37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7',
    '4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4',
    '76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef',
    'ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c',
    '5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328',
  ];
  t.equal(hex(rootOf(EMPTY_FRONTIER)), hex(createHash('sha256').digest()));
  let frontier = EMPTY_FRONTIER;
  for (const [index, entry] of entries.entries()) {
    frontier = extend(frontier, [Buffer.from(entry, 'hex')]);
    t.equal(hex(rootOf(frontier)), roots[index]);
  }
});

/** RFC 6962 section 2.1, as it is written there. */
function definition(entries: readonly Uint8Array[]): Buffer {
  const sha = (...parts: Uint8Array[]): Buffer =>
    parts.reduce((hash, part) => hash.update(part), createHash('sha256')).digest();
  const [only] = entries;
  if (only === undefined) return sha();
  if (entries.length === 1) return sha(Uint8Array.of(0), only);
  let k = 1;
  while (k * 2 < entries.length) k *= 2;
  return sha(Uint8Array.of(1), definition(entries.slice(0, k)), definition(entries.slice(k)));
}

t.test('in any steps, over any encoding, it is the tree the RFC defines', async () => {
  fc.assert(
    fc.property(
      fc.array(fc.uint8Array({ maxLength: 40 }), { maxLength: 70 }),
      fc.array(fc.nat(70)),
      (entries, cuts) => {
        const marks = [...cuts.filter((cut) => cut <= entries.length), entries.length].sort((a, b) => a - b);
        let frontier: Frontier = EMPTY_FRONTIER;
        for (const mark of marks) {
          const read = decodeFrontier(encodeFrontier(frontier));
          if (read === undefined) return false;
          frontier = extend(read, entries.slice(frontier.size, mark));
        }
        return (
          frontier.size === entries.length &&
          frontier.hashes.length <= Math.ceil(Math.log2(entries.length + 1)) &&
          definition(entries).equals(rootOf(frontier))
        );
      },
    ),
  );
});

t.test('a frontier that was damaged is not believed', async (t) => {
  const text = encodeFrontier(extend(EMPTY_FRONTIER, [Buffer.alloc(32), Buffer.alloc(32), Buffer.alloc(32)]));
  t.ok(decodeFrontier(text));
  for (const wrong of ['', 'x', '-1', '3', text.replace('3 ', '4 '), `${text} AAAA`, text.slice(0, -4)])
    t.equal(decodeFrontier(wrong), undefined, wrong);
  for (const [size, other] of ['03', '3e0', '+3', ' 3', '3 ', '0x3'].entries())
    t.equal(decodeFrontier(text.replace('3', other)), undefined, `size ${size}: ${other}`);
  fc.assert(
    fc.property(fc.nat(text.length), fc.integer({ min: 0, max: 255 }), fc.nat(1), (at, code, taken) => {
      const other = text.slice(0, at) + String.fromCharCode(code) + text.slice(at + taken);
      const read = decodeFrontier(other);
      // Either it is none, or it is another one: no two texts are one tree.
      return read === undefined || encodeFrontier(read) === other;
    }),
    { numRuns: 2_000 },
  );
});
