import t from 'tap';
import type { Link } from '../../../../src/engines/tproxy/link.ts';
import { createLinkPool, type PoolOptions } from '../../../../src/engines/tproxy/link-pool.ts';
import { createVirtualClock } from './virtual-clock.ts';

const OPTIONS: PoolOptions = {
  warm: 2,
  most: 4,
  waitTimeout: 5_000,
  idleTimeout: 60_000,
  pingEvery: 15_000,
  backoffLeast: 50,
  backoffMost: 2_000,
};

/** What the pool needs of a link; whether it answers a PING is the test's choice. */
class PoolLink {
  closed = false;
  retiring = false;
  heardAt: number;
  answers = true;
  pings = 0;
  readonly #now: () => number;

  constructor(now: () => number) {
    this.#now = now;
    this.heardAt = now();
  }

  ping(answered: () => void): void {
    this.pings += 1;
    if (!this.answers) return;
    this.heardAt = this.#now();
    answered();
  }

  destroy(): void {
    this.closed = true;
    this.died();
  }

  died: () => void = () => undefined;
}

function start(change: Partial<PoolOptions> = {}) {
  const clock = createVirtualClock();
  const dials: { established: (link: Link) => void; failed: () => void }[] = [];
  const pool = createLinkPool(
    { ...OPTIONS, ...change },
    { clock, dial: (established, failed) => dials.push({ established, failed }) },
  );
  const made: PoolLink[] = [];
  /** Completes every dial under way. */
  const answer = (): void => {
    for (const dial of dials.splice(0)) {
      const link = new PoolLink(clock.monotonic);
      made.push(link);
      const asLink = link as unknown as Link;
      link.died = () => pool.dropped(asLink);
      dial.established(asLink);
    }
  };
  return { clock, pool, dials, made, answer };
}

t.test('keeps links warm while it is told to, and hands out the one used last', async (t) => {
  const { pool, dials, answer } = start();
  t.equal(dials.length, 0);
  pool.keepWarm(true);
  t.equal(dials.length, 2);
  answer();
  t.match(pool.counts(), { idle: 2, leased: 0, dialed: 2 });
  const taken: Link[] = [];
  pool.lease((link) => link !== undefined && taken.push(link));
  t.equal(dials.length, 1, 'the gap is filled at once');
  answer();
  const [first] = taken;
  if (first === undefined) throw new Error('no link was leased');
  pool.release(first);
  pool.lease((link) => t.equal(link, first, 'warmest first'));
  t.match(pool.counts(), { leased: 1, reused: 1 });
  pool.stop();
});

t.test('flows wait in order for cold links, and not for ever', async (t) => {
  const { pool, clock, dials, answer } = start({ warm: 0 });
  const got: string[] = [];
  const want = (name: string) =>
    pool.lease((link) => got.push(`${name} ${link === undefined ? 'none' : 'link'}`));
  want('a');
  const withdraw = want('b');
  want('c');
  t.equal(dials.length, 3);
  withdraw();
  answer();
  t.same(got, ['a link', 'c link']);
  t.equal(pool.counts().idle, 1, "b's link waits for the next");
  want('d');
  want('e');
  for (const dial of dials.splice(0)) dial.failed();
  clock.advance(4_999);
  for (const dial of dials.splice(0)) dial.failed();
  t.same(got, ['a link', 'c link', 'd link']);
  clock.advance(1);
  t.same(got, ['a link', 'c link', 'd link', 'e none']);
  pool.stop();
});

t.test('backs off from a peer that cannot be reached', async (t) => {
  const { pool, clock, dials } = start({ warm: 1 });
  pool.keepWarm(true);
  const waits: number[] = [];
  for (let tries = 0; tries < 9; tries += 1) {
    for (const dial of dials.splice(0)) dial.failed();
    let waited = 0;
    while (dials.length === 0 && waited < 10_000) {
      clock.advance(10);
      waited += 10;
    }
    waits.push(waited);
  }
  t.same(waits, [50, 100, 200, 400, 800, 1_600, 2_000, 2_000, 2_000]);
  pool.stop();
  t.equal(clock.pending(), 0);
});

t.test('never more links than the limit', async (t) => {
  const { pool, dials, answer } = start();
  for (let flows = 0; flows < 10; flows += 1) pool.lease(() => undefined);
  t.equal(dials.length, 4);
  answer();
  t.equal(dials.length, 0);
  t.match(pool.counts(), { leased: 4, idle: 0 });
  pool.stop();
});

t.test('pings idle links, drops the deaf, trims those beyond the warm ones', async (t) => {
  const { pool, clock, made, answer } = start({ warm: 1, most: 10 });
  const leased: Link[] = [];
  for (let flows = 0; flows < 3; flows += 1) pool.lease((link) => link !== undefined && leased.push(link));
  answer();
  pool.keepWarm(true);
  answer();
  // A flow whose peer said nothing for a while: that silence is not an unanswered PING.
  clock.advance(10);
  for (const link of leased) pool.release(link);
  t.equal(pool.counts().idle, 4);
  clock.advance(25_000);
  t.equal(pool.counts().idle, 4);
  t.ok(made.every((link) => link.pings > 0));
  const [deaf] = made;
  if (deaf !== undefined) deaf.answers = false;
  clock.advance(35_000);
  t.equal(deaf?.closed, true);
  clock.advance(60_000);
  t.equal(pool.counts().idle, 1);
  pool.stop();
  t.equal(clock.pending(), 0);
  t.ok(made.every((link) => link.closed));
});

t.test('a retiring link is not used again', async (t) => {
  const { pool, made, answer } = start({ warm: 0 });
  let held: Link | undefined;
  pool.lease((link) => {
    held = link;
  });
  answer();
  if (held === undefined) throw new Error('no link was leased');
  held.retiring = true;
  pool.release(held);
  t.equal(made[0]?.closed, true);
  t.match(pool.counts(), { idle: 0, leased: 0 });
  pool.stop();
  pool.lease((link) => t.equal(link, undefined, 'a stopped pool has none'));
});

t.test('a peer that closes links as soon as they stand is not dialed without pause', async (t) => {
  const { pool, clock, dials, made, answer } = start({ warm: 1 });
  pool.keepWarm(true);
  answer();
  made[0]?.destroy();
  t.equal(dials.length, 0);
  clock.advance(50);
  t.equal(dials.length, 1);
  pool.stop();
});
