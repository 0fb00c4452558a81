import { Crowd, type Member, slowDown } from './crowd.ts';

export interface CrowdOutcome {
  readonly hosts: number;
  readonly writes: number;
  /** Every host that is up holds the same in the end. */
  readonly converged: boolean;
  /** Virtual ms from peace to agreement. */
  readonly healedInMs: number;
  /** Changes that are not everywhere, or somewhere twice. */
  readonly wrong: readonly string[];
  readonly story: readonly string[];
}

/**
 * One life of a cluster of many under loss, partitions, skew, crashes with and without loss of the disk, slow hosts, joins and
 * leaves; then peace. The crowd's shortcuts apply: sessions stand, and membership is believed by all at once.
 */
export function runCrowdLife(count: number, seed: number, steps = 12): CrowdOutcome {
  const crowd = new Crowd(count, seed, { counted: false });
  const { random, time } = crowd;
  const below = (limit: number): number => Math.floor(random.fraction() * limit);
  const story: string[] = [];
  const tell = (text: string) => story.push(`${Math.round(time.now)} ${text}`);
  const gone = new Set<Member>();
  const up = () => crowd.members.filter((member) => member.up);
  const pick = (from: readonly Member[]): Member => {
    const member = from[below(from.length)];
    if (member === undefined) throw new Error('nobody is there');
    return member;
  };
  const written: string[] = [];
  /** Lost with the only disk that held it. */
  const perished = new Set<string>();
  const write = (member: Member): void => {
    if (member.machine.holdReason() !== undefined) return;
    const hash = member.log.write(`w${written.length}`).hash;
    written.push(hash);
  };
  const some = (share: number): Member[] => up().filter(() => random.fraction() < share);

  slowDown(crowd, crowd.members, 0.02);
  for (let step = 0; step < steps; step += 1) {
    const dice = random.fraction();
    for (let i = below(4); i > 0; i -= 1) write(pick(up()));
    if (dice < 0.2) {
      crowd.loss = [0, 0.05, 0.3][below(3)] ?? 0;
      tell(`loss ${crowd.loss}`);
    } else if (dice < 0.35) {
      const border = below(crowd.members.length);
      const groups = new Map(crowd.members.map((member, index) => [member, index < border ? 0 : 1]));
      crowd.groups = random.fraction() < 0.5 ? undefined : (member) => groups.get(member) ?? 0;
      tell(crowd.groups === undefined ? 'one network' : `partition before host ${border}`);
    } else if (dice < 0.5) {
      const dead = some(0.03);
      for (const member of dead) crowd.kill(member);
      tell(`${dead.length} hosts die`);
    } else if (dice < 0.7) {
      const back = crowd.members.filter((member) => !member.up && !gone.has(member));
      for (const member of back) {
        const disk = random.fraction() < 0.3 ? 'lost' : 'kept';
        if (disk === 'lost') {
          const elsewhere = new Set(
            crowd.members
              .filter((other) => other !== member)
              .flatMap((other) => [...other.log.added()].map((event) => event.hash)),
          );
          for (const event of member.log.added()) if (!elsewhere.has(event.hash)) perished.add(event.hash);
        }
        crowd.restart(member, disk);
      }
      tell(`${back.length} hosts come back`);
    } else if (dice < 0.8) {
      for (const member of some(0.05)) member.skew = Math.floor((random.fraction() - 0.5) * 40_000);
    } else if (dice < 0.9) {
      const by = pick(up());
      if (by.machine.holdReason() === undefined) crowd.join(by);
      tell('a host joins');
    } else if (crowd.groups === undefined && crowd.loss === 0) {
      const member = pick(up());
      if (member.machine.holdReason() === undefined) {
        crowd.leave(member);
        time.advance(2_000);
        crowd.kill(member);
        gone.add(member);
        tell('a host leaves');
      }
    }
    time.advance(500 + random.fraction() * 6_000);
  }

  tell('peace');
  crowd.groups = undefined;
  crowd.loss = 0;
  for (const member of crowd.members) if (!member.up && !gone.has(member)) crowd.restart(member, 'kept');
  const startedAt = time.now;
  const agree = () => new Set(up().map((member) => member.log.later)).size === 1;
  while (!agree() && time.now - startedAt < 600_000) time.advance(1_000);
  const converged = agree();
  const expected = written.filter((hash) => !perished.has(hash));
  const wrong = up().flatMap((member) => {
    const times = new Map<string, number>();
    for (const { hash } of member.log.added()) times.set(hash, (times.get(hash) ?? 0) + 1);
    return expected.filter((hash) => times.get(hash) !== 1).map((hash) => `${member.peerId} ${hash}`);
  });
  return {
    hosts: up().length,
    writes: written.length,
    converged,
    healedInMs: time.now - startedAt,
    wrong: wrong.slice(0, 5),
    story,
  };
}
