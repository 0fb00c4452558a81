import t from 'tap';
import { Crowd, slowDown } from './crowd.ts';
import { Memberlist } from './memberlist.ts';

/**
 * One host in ten stands still for up to 16 s at a time, as an overloaded one does, and nobody dies: each member given up is a
 * false positive. The same hosts, the same seeds, the same probe interval on both sides.
 */
const COUNT = 40;
const SLOW = 0.1;
const MINUTES = 5;
const HEARTBEAT = 1_000;
const only = process.env['ARCTIC_SEED'];
const long = process.env['ARCTIC_LONG'] === '1';
const seeds = only === undefined ? Array.from({ length: long ? 20 : 1 }, (_, i) => i + 1) : [Number(only)];
t.setTimeout(long ? 3_600_000 : 600_000);

t.test('slow hosts are given up no more often than by memberlist with Lifeguard', async (t) => {
  const slow = Math.round(COUNT * SLOW);
  const sum = { ours: 0, healthy: 0, theirs: 0, theirHealthy: 0, deaths: 0 };
  for (const seed of seeds) {
    const crowd = new Crowd(COUNT, seed, { heartbeat: HEARTBEAT });
    slowDown(crowd, crowd.members, SLOW);
    const before = crowd.members.map((member) => member.unreachable.length);
    crowd.time.advance(MINUTES * 60_000);
    const slowIds = new Set(crowd.members.slice(0, slow).map((member) => member.peerId));
    for (const [index, member] of crowd.members.entries()) {
      const events = member.unreachable.slice(before[index] ?? 0);
      sum.ours += events.length;
      sum.healthy += events.filter((peer) => !slowIds.has(peer)).length;
    }
    const list = new Memberlist(COUNT, seed, { probeInterval: HEARTBEAT });
    list.time.advance(15_000);
    slowDown(list, list.nodes, SLOW);
    list.time.advance(MINUTES * 60_000);
    sum.theirs += list.failures.length;
    sum.theirHealthy += list.failures.filter(({ target }) => target >= slow).length;
  }
  const hours = ((seeds.length * MINUTES) / 60).toFixed(2);
  t.comment(
    `${COUNT} hosts, ${slow} slow, ${hours} h: Arctic ${sum.ours} (${sum.healthy} of healthy hosts), ` +
      `memberlist ${sum.theirs} (${sum.theirHealthy} of healthy hosts)`,
  );
  t.ok(sum.ours <= sum.theirs);
  t.ok(sum.healthy <= sum.theirHealthy);
});

t.test('and one that is dead is noticed all the same', async (t) => {
  const crowd = new Crowd(COUNT, seeds[0] ?? 1, { heartbeat: HEARTBEAT });
  const dead = crowd.member(7);
  dead.up = false;
  dead.machine.stop();
  const at = crowd.time.now;
  const noticed = () =>
    crowd.members.every((one) => one === dead || one.machine.observed(dead.peerId).state === 'unreachable');
  while (!noticed() && crowd.time.now - at < 120_000) crowd.time.advance(500);
  t.ok(noticed());
  t.comment(
    `by all ${COUNT - 1} within ${Math.round(crowd.time.now - at)} ms at a heartbeat of ${HEARTBEAT} ms`,
  );
});
