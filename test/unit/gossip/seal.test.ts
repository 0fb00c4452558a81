import { createCipheriv, randomBytes } from 'node:crypto';
import { deflateRawSync } from 'node:zlib';
import fc from 'fast-check';
import t from 'tap';
import { MAX_BODY } from '../../../src/gossip/parameters.ts';
import { createReplayWindow } from '../../../src/gossip/replay-window.ts';
import { open, type SealContext, seal, sealedHeader } from '../../../src/gossip/seal.ts';

/** `ARCTIC_LONG=1`: the full number of cases. */
const numRuns = process.env['ARCTIC_LONG'] === '1' ? 100_000 : 5_000;

const key = new Uint8Array(32).fill(9);
const header = { sessionId: 'ab'.repeat(16), counter: 7, time: 1_767_225_600_000 };
const context: SealContext = { role: 'request', method: 'POST', path: '/v1/peer/gossip', inReplyTo: 0 };

t.test('what is sealed opens to the same value, small or large', async (t) => {
  fc.assert(
    fc.property(fc.jsonValue(), (value) => {
      const body = seal(key, header, context, { value });
      const plain = JSON.stringify({ value });
      return (
        JSON.stringify(sealedHeader(body)) === JSON.stringify(header) &&
        JSON.stringify(open(key, header, context, body)?.value) === plain
      );
    }),
    { numRuns },
  );
  const large = { text: 'x'.repeat(500_000) };
  const body = seal(key, header, context, large);
  t.ok(body.length < 5_000, 'deflated');
  t.same(open(key, header, context, body)?.value, large);
});

t.test('any changed byte, and any truncation, is refused', async () => {
  const body = seal(key, header, context, { kind: 'ping', n: 1 });
  fc.assert(
    fc.property(fc.nat(body.length - 1), fc.integer({ min: 1, max: 255 }), (at, flip) => {
      const changed = Uint8Array.from(body);
      changed[at] = (changed[at] ?? 0) ^ flip;
      const found = sealedHeader(changed);
      return found === undefined || open(key, found, context, changed) === undefined;
    }),
    { numRuns },
  );
  fc.assert(
    fc.property(fc.nat(body.length - 1), (length) => {
      const short = body.subarray(0, length);
      const found = sealedHeader(short);
      return found === undefined || open(key, found, context, short) === undefined;
    }),
  );
});

t.test('a body is bound to its method, path, role and the request it answers', async (t) => {
  const body = seal(key, header, context, {});
  for (const other of [
    { ...context, method: 'PUT' },
    { ...context, path: '/v1/peer/handshake' },
    { ...context, role: 'answer' as const },
    { ...context, inReplyTo: 1 },
  ])
    t.equal(open(key, header, other, body), undefined);
  t.equal(open(new Uint8Array(32), header, context, body), undefined, 'another key');
});

t.test('arbitrary bytes never throw', async () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 300 }), (bytes) => {
      const found = sealedHeader(bytes);
      return found === undefined || open(key, found, context, bytes) === undefined;
    }),
    { numRuns },
  );
});

t.test('too large to send is refused here; too large to inflate is refused there', async (t) => {
  const noise = randomBytes(MAX_BODY).toString('base64');
  t.throws(() => seal(key, header, context, { noise }), RangeError);
  t.equal(sealedHeader(new Uint8Array(MAX_BODY + 1)), undefined);
  // A member gone bad: 64 MiB of zeros behind a genuine seal.
  const bomb = Buffer.concat([Buffer.of(1), deflateRawSync(Buffer.alloc(64 * 1024 * 1024))]);
  const genuine = seal(key, header, context, {});
  const head = genuine.subarray(0, 36);
  const nonce = Buffer.alloc(12);
  nonce.writeBigUInt64BE(7n, 4);
  const cipher = createCipheriv('aes-256-gcm', key, nonce);
  cipher.setAAD(
    Buffer.concat([Buffer.from('arctic v1 sealed\0request\0POST\0/v1/peer/gossip\x000\0'), head]),
  );
  const body = Buffer.concat([head, cipher.update(bomb), cipher.final(), cipher.getAuthTag()]);
  t.equal(open(key, header, context, body), undefined);
});

t.test('the replay window takes each counter once, as a plain set would', async (t) => {
  fc.assert(
    fc.property(fc.array(fc.integer({ min: 1, max: 6_000 }), { maxLength: 300 }), (counters) => {
      const window = createReplayWindow();
      const seen = new Set<number>();
      let newest = 0;
      for (const counter of counters) {
        const expected = !seen.has(counter) && counter > newest - 4_096;
        if (window.accept(counter) !== expected) return false;
        if (expected) seen.add(counter);
        newest = Math.max(newest, expected ? counter : newest);
      }
      return true;
    }),
    { numRuns: numRuns / 10 },
  );
  const window = createReplayWindow();
  for (const bad of [0, -1, 1.5, Number.NaN, 2 ** 60]) t.notOk(window.accept(bad));
});
