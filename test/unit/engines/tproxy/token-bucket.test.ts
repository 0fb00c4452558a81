import fc from 'fast-check';
import t from 'tap';
import { createTokenBucket } from '../../../../src/engines/tproxy/token-bucket.ts';
import { createVirtualClock } from './virtual-clock.ts';

/** Bytes that pass in `ms` when `flows` senders of `chunk` bytes never run dry; and each one's share. */
function saturate(
  bits: number,
  flows: number,
  chunk: number,
  ms: number,
): { total: number; shares: number[] } {
  const clock = createVirtualClock();
  const bucket = createTokenBucket(bits, clock);
  const shares = Array.from({ length: flows }, () => 0);
  const send = (flow: number): void => {
    for (let chunks = 0; chunks < 100_000; chunks += 1) {
      const passed = (): void => {
        shares[flow] = (shares[flow] ?? 0) + chunk;
      };
      const answer = bucket.request(chunk, () => {
        passed();
        send(flow);
      });
      if (answer !== true) return;
      passed();
    }
  };
  for (let flow = 0; flow < flows; flow += 1) send(flow);
  clock.advance(ms);
  bucket.stop();
  t.equal(clock.pending(), 0, 'no timer is left');
  return { total: shares.reduce((sum, share) => sum + share, 0), shares };
}

t.test('the rate holds within 2 %, whatever the chunks and flows', async (t) => {
  fc.assert(
    fc.property(
      fc.constantFrom(1_000_000, 8_000_000, 100_000_000, 1_000_000_000),
      fc.constantFrom(1, 4, 64),
      fc.constantFrom(1_460, 16_384, 65_536),
      (bits, flows, chunk) => {
        const seconds = 200_000_000 / bits + 20;
        const { total } = saturate(bits, flows, chunk, seconds * 1_000);
        const allowed = (bits / 8) * seconds;
        const burst = Math.max(131_072, bits / 400);
        t.ok(
          total <= allowed * 1.02 + burst + chunk,
          `${bits} bit/s, ${flows} flows: ${total} of ${allowed}`,
        );
        t.ok(total >= allowed * 0.98 - chunk, `${bits} bit/s, ${flows} flows: ${total} of ${allowed}`);
      },
    ),
    { numRuns: 12 },
  );
});

t.test('flows get equal shares', async (t) => {
  const { shares } = saturate(50_000_000, 16, 65_536, 20_000);
  t.ok(
    Math.max(...shares) - Math.min(...shares) <= 2 * 131_072,
    `${Math.min(...shares)} to ${Math.max(...shares)}`,
  );
});

t.test('zero is unlimited, and a change of rate counts at once', async (t) => {
  const clock = createVirtualClock();
  const bucket = createTokenBucket(0, clock);
  t.equal(
    bucket.request(1e9, () => t.fail('must not wait')),
    true,
  );
  bucket.setRate(8_000);
  bucket.request(10_000_000, () => undefined);
  let granted = 0;
  const waiting = bucket.request(1, () => {
    granted += 1;
  });
  t.not(waiting, true);
  clock.advance(1_000);
  t.equal(granted, 0, '10 MB of debt at 1 KB a second');
  bucket.setRate(0);
  t.equal(granted, 1);
  t.equal(bucket.waits(), 1);
  bucket.stop();
});

t.test('a request that is cancelled is not granted and holds nobody up', async (t) => {
  const clock = createVirtualClock();
  const bucket = createTokenBucket(8_000_000, clock);
  bucket.request(200_000, () => undefined);
  const cancel = bucket.request(1_000_000, () => t.fail('cancelled'));
  let second = false;
  bucket.request(10, () => {
    second = true;
  });
  if (cancel !== true) cancel();
  clock.advance(100);
  t.ok(second);
  bucket.stop();
});
