import t from 'tap';
import { Crowd } from './crowd.ts';
import { compareDetection, HEARTBEAT } from './detection.ts';

const only = process.env['ARCTIC_SEED'];
const long = process.env['ARCTIC_LONG'] === '1';
const seeds = only === undefined ? Array.from({ length: long ? 20 : 1 }, (_, i) => i + 1) : [Number(only)];
t.setTimeout(long ? 3_600_000 : 600_000);

t.test('slow hosts are given up no more often than by memberlist with Lifeguard', async (t) => {
  const { hosts, slow, hours, ours, healthy, theirs, theirHealthy } = compareDetection(seeds);
  t.comment(
    `${hosts} hosts, ${slow} slow, ${hours.toFixed(2)} h: Arctic ${ours} (${healthy} of healthy hosts), ` +
      `memberlist ${theirs} (${theirHealthy} of healthy hosts)`,
  );
  t.ok(ours <= theirs);
  t.ok(healthy <= theirHealthy);
});

t.test('and one that is dead is noticed all the same', async (t) => {
  const crowd = new Crowd(40, seeds[0] ?? 1, { heartbeat: HEARTBEAT });
  const dead = crowd.member(7);
  crowd.kill(dead);
  const at = crowd.time.now;
  const noticed = () =>
    crowd.members.every((one) => one === dead || one.machine.observed(dead.peerId).state === 'unreachable');
  while (!noticed() && crowd.time.now - at < 120_000) crowd.time.advance(500);
  t.ok(noticed());
  t.comment(
    `by all ${crowd.members.length - 1} within ${Math.round(crowd.time.now - at)} ms at a heartbeat of ${HEARTBEAT} ms`,
  );
});
