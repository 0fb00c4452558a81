import type { Crowd } from './crowd.ts';

/** Times from a change to its arrival at each other member, ms of virtual time, and what it cost. */
export interface Spread {
  readonly arrivals: readonly number[];
  /** Those that never arrived within the limit. */
  readonly missing: number;
  /** Bytes on the wire because of one change, divided by the number of members. */
  readonly bytesPerPeer: number;
  readonly pushesPerPeer: number;
  /** Bytes a second and member for heartbeats. */
  readonly heartbeatBytes: number;
}

/** Writes `changes` at random members, `pause` ms apart, and watches them spread. */
export function measureSpread(crowd: Crowd, changes: number, pause = 5_000): Spread {
  const { time, members, random } = crowd;
  const arrivals: number[] = [];
  let at = 0;
  let watched = '';
  const unsubscribe = members.map((member) =>
    member.log.subscribe((events) => {
      if (events.some((event) => event.hash === watched)) arrivals.push(time.now - at);
    }),
  );
  const before = { idle: crowd.idleBytes, change: crowd.changeBytes, pushes: crowd.pushes };
  for (let change = 0; change < changes; change += 1) {
    at = time.now;
    const author = members[Math.floor(random.fraction() * members.length)];
    watched = author?.log.write(`change-${change}`).hash ?? '';
    time.advance(pause);
  }
  for (const stop of unsubscribe) stop();
  return {
    arrivals: arrivals.sort((a, b) => a - b),
    missing: changes * (members.length - 1) - arrivals.length,
    bytesPerPeer: (crowd.changeBytes - before.change) / changes / members.length,
    pushesPerPeer: (crowd.pushes - before.pushes) / changes / members.length,
    heartbeatBytes: ((crowd.idleBytes - before.idle) * 1_000) / (changes * pause) / members.length,
  };
}

/** The value below which this share of an ascending list lies. */
export const quantile = (ascending: readonly number[], share: number): number =>
  ascending[Math.min(ascending.length - 1, Math.ceil(share * ascending.length) - 1)] ?? Number.NaN;
