/** The checksum of a row is in every database there is: it must stay what zlib makes of these bytes. */
import { crc32 } from 'node:zlib';
import fc from 'fast-check';
import t from 'tap';
import type { AnyEvent } from '../../../events/envelope.ts';
import { type EventRow, isIntact, rowOf } from '../../../events/log-rows.ts';

t.test('the checksum is the CRC-32 of position, time, hash, signature and body', async (t) => {
  const text = fc.string({ unit: 'binary', maxLength: 200 });
  const hex = fc.stringMatching(/^[0-9a-f]{64}$/);
  const signature = fc.option(fc.base64String({ minLength: 88, maxLength: 88 }), { nil: null });
  fc.assert(
    fc.property(fc.maxSafeNat(), fc.maxSafeNat(), hex, signature, text, (position, at, hash, sig, body) => {
      const row = rowOf({ position, hash, signature: sig } as AnyEvent, body, at);
      const whole = Buffer.from(`${position} ${at} ${hash} ${sig} ${body}`);
      return row[2] === crc32(whole) && isIntact(row);
    }),
    { examples: [[0, 0, '0'.repeat(64), null, '']] },
  );
  const row: EventRow = rowOf(
    { position: 7, hash: 'a'.repeat(64), signature: null } as AnyEvent,
    '{"a":1}',
    1_790_000_000_000,
  );
  for (const [column, other] of [
    [0, 8],
    [1, 1_790_000_000_001],
    [3, '{"a":2}'],
    [4, `${'a'.repeat(63)}b`],
    [5, 'A'.repeat(88)],
  ] as const) {
    const changed: EventRow = [...row];
    (changed as unknown[])[column] = other;
    t.notOk(isIntact(changed), `column ${column}`);
  }
});
