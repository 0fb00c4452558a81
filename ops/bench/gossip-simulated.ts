/**
 * The gossip machine in virtual time: how long one change takes to reach every member and what it costs, beside Serf's published
 * figures; and how often slow hosts are given up, beside memberlist's rules with Lifeguard. Everything follows from the seeds,
 * so the figures do not depend on the machine or its load.
 *
 *   node --max-old-space-size=6000 --import=tsx ops/bench/gossip-simulated.ts [--peers=10,100,1000] [--detection=SEEDS]
 */
import { Crowd } from '../../test/simulation/crowd.ts';
import { compareDetection } from '../../test/simulation/detection.ts';
import { measureSpread, quantile } from '../../test/simulation/spread.ts';

/** Gossip every 200 ms to 3 nodes, no loss: until 99.99 % know. https://www.serf.io/docs/internals/simulator.html */
const SERF_SECONDS: Readonly<Record<number, number>> = { 10: 1.6, 100: 2.0, 1000: 2.2 };
const SEED = 1;

const option = (name: string): string | undefined =>
  process.argv.find((one) => one.startsWith(`--${name}=`))?.slice(name.length + 3);

const ms = (value: number): string => `${Math.round(value)} ms`;

const counts = (option('peers') ?? '10,100,1000').split(',').filter((one) => one !== '');
if (counts.length > 0) {
  console.log(
    '| peers | loss | 50 % | 99.99 % | Serf, 99.99 % | bytes a change and peer | pushes | heartbeats |',
  );
  console.log('|---|---|---|---|---|---|---|---|');
}
for (const text of counts) {
  const peers = Number(text);
  for (const loss of [0, 0.05]) {
    const crowd = new Crowd(peers, SEED, { loss });
    const spread = measureSpread(crowd, peers >= 1_000 ? 10 : 50, 10_000);
    const serf = SERF_SECONDS[peers];
    console.log(
      `| ${peers} | ${loss * 100} % | ${ms(quantile(spread.arrivals, 0.5))} | ${ms(quantile(spread.arrivals, 0.9999))} | ` +
        `${serf === undefined || loss > 0 ? '' : `${serf * 1_000} ms`} | ${Math.round(spread.bytesPerPeer)} | ` +
        `${spread.pushesPerPeer.toFixed(1)} | ${Math.round(spread.heartbeatBytes)} B/s |` +
        `${spread.missing > 0 ? ` ${spread.missing} missing` : ''}`,
    );
  }
}

const seeds = Number(option('detection') ?? 0);
if (seeds > 0) {
  const sum = compareDetection(Array.from({ length: seeds }, (_, i) => i + 1));
  console.log('\n| rules | members given up that were alive | of them healthy |');
  console.log('|---|---|---|');
  console.log(`| Arctic | ${sum.ours} | ${sum.healthy} |`);
  console.log(`| memberlist with Lifeguard | ${sum.theirs} | ${sum.theirHealthy} |`);
  console.log(`\n${sum.hosts} hosts, ${sum.slow} of them slow, ${sum.hours.toFixed(2)} h of virtual time.`);
}
