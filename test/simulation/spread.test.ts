import t from 'tap';
import { Crowd } from './crowd.ts';
import { measureSpread, quantile } from './spread.ts';

/**
 * Serf's published simulation of its convergence (gossip every 200 ms, fan-out 3, no loss): seconds until 99.99 % of the
 * members know. https://www.serf.io/docs/internals/simulator.html
 */
const SERF_MS: ReadonlyMap<number, number> = new Map([
  [3, 1_600],
  [10, 1_600],
  [50, 2_000],
  [200, 2_200],
  [1_000, 2_200],
]);

t.setTimeout(600_000);
const seed = Number(process.env['ARCTIC_SEED'] ?? 1);
const long = process.env['ARCTIC_LONG'] === '1';

for (const [count, serf] of SERF_MS) {
  if (count > 200 && !long) continue;
  t.test(`one change reaches ${count} peers in half the time Serf needs`, async (t) => {
    const crowd = new Crowd(count, seed);
    const changes = count >= 200 ? 3 : 20;
    const spread = measureSpread(crowd, changes, count >= 1_000 ? 2_500 : 5_000);
    const last = quantile(spread.arrivals, 0.9999);
    t.equal(spread.missing, 0);
    t.ok(last <= serf / 2, `99.99 % in ${Math.round(last)} ms of virtual time; ${serf / 2} allowed`);
    t.comment(
      `${count} peers: 50 % in ${Math.round(quantile(spread.arrivals, 0.5))} ms, 99.99 % in ${Math.round(last)} ms, ` +
        `${Math.round(spread.bytesPerPeer)} bytes a change and peer, ${spread.pushesPerPeer.toFixed(1)} pushes; ` +
        `heartbeats ${Math.round(spread.heartbeatBytes)} bytes a second and peer`,
    );
  });
}

t.test('a change reaches everybody although three in ten messages are lost', async (t) => {
  const crowd = new Crowd(50, seed + 1);
  crowd.loss = 0.3;
  const spread = measureSpread(crowd, 3, 40_000);
  t.equal(spread.missing, 0);
  t.comment(`99 % in ${Math.round(quantile(spread.arrivals, 0.99))} ms`);
});
