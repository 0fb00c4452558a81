import { Crowd, slowDown } from './crowd.ts';
import { Memberlist } from './memberlist.ts';

const COUNT = 40;
const SLOW = 0.1;
const MINUTES = 5;
export const HEARTBEAT = 1_000;

export interface Comparison {
  readonly hosts: number;
  readonly slow: number;
  readonly hours: number;
  /** Members given up although they were alive, by Arctic and by memberlist; and those of them that were not even slow. */
  readonly ours: number;
  readonly healthy: number;
  readonly theirs: number;
  readonly theirHealthy: number;
}

/**
 * One host in ten stands still for up to 16 s at a time, as an overloaded one does, and nobody dies: each member given up is a
 * false positive. The same hosts, the same seeds, the same probe interval on both sides.
 */
export function compareDetection(seeds: readonly number[]): Comparison {
  const slow = Math.round(COUNT * SLOW);
  const sum = { ours: 0, healthy: 0, theirs: 0, theirHealthy: 0 };
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
  return { hosts: COUNT, slow, hours: (seeds.length * MINUTES) / 60, ...sum };
}
