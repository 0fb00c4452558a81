import t from 'tap';
import { recurring } from '../../../src/engines/recurring.ts';
import { createVirtualClock } from './tproxy/virtual-clock.ts';

t.test('looks come one interval apart, between start and stop', async (t) => {
  const clock = createVirtualClock();
  const at: number[] = [];
  const looks = recurring(clock, 100, () => at.push(clock.monotonic()));
  clock.advance(1_000);
  looks.start();
  looks.start();
  clock.advance(250);
  t.same(at, [1_100, 1_200]);
  looks.stop();
  looks.stop();
  clock.advance(1_000);
  t.same(at, [1_100, 1_200]);
  t.equal(clock.pending(), 0);
  looks.start();
  clock.advance(100);
  t.equal(at.length, 3, 'started again');
});

t.test('a look that stops them is the last one', async (t) => {
  const clock = createVirtualClock();
  let seen = 0;
  const looks = recurring(clock, 1, () => {
    seen += 1;
    looks.stop();
  });
  looks.start();
  clock.advance(10);
  t.equal(seen, 1);
  t.equal(clock.pending(), 0);
});

t.test('a look that starts them anew does so once', async (t) => {
  const clock = createVirtualClock();
  const looks = recurring(clock, 1, () => {
    looks.stop();
    looks.start();
  });
  looks.start();
  clock.advance(10);
  t.equal(clock.pending(), 1);
});
