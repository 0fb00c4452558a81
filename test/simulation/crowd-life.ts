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

/** What befalls every life, in an order of its own. Whatever is there twice begins and ends by turns. */
const BLOWS = [
  'loss of 5 %',
  'loss of 30 %',
  'no loss',
  'partition',
  'partition',
  'deaths',
  'deaths',
  'deaths',
  'deaths',
  'skew',
  'join',
  'leave',
] as const;

/**
 * One life of a cluster of many under loss, partitions, skew, crashes with and without loss of the disk, slow hosts, joins and
 * leaves, each in every life; then peace. The crowd's shortcuts apply: sessions stand, and membership is believed by all at once.
 */
export function runCrowdLife(count: number, seed: number): CrowdOutcome {
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
  const blows = BLOWS.map((blow) => ({ blow, at: random.fraction() })).sort((a, b) => a.at - b.at);
  let losesDisk = true;
  for (const { blow } of blows) {
    for (let i = below(4); i > 0; i -= 1) write(pick(up()));
    if (blow.endsWith('%') || blow === 'no loss') {
      crowd.loss = blow === 'no loss' ? 0 : Number(blow.split(' ')[2]) / 100;
      tell(blow);
    } else if (blow === 'partition') {
      const border = 1 + below(crowd.members.length - 1);
      const groups = new Map(crowd.members.map((member, index) => [member, index < border ? 0 : 1]));
      crowd.groups = crowd.groups === undefined ? (member) => groups.get(member) ?? 0 : undefined;
      tell(crowd.groups === undefined ? 'one network' : `partition before host ${border}`);
    } else if (blow === 'deaths') {
      const back = crowd.members.filter((member) => !member.up && !gone.has(member));
      if (back.length === 0) {
        const dead = [...new Set([pick(up()), pick(up()), ...some(0.03)])];
        for (const member of dead) crowd.kill(member);
        tell(`${dead.length} hosts die`);
      }
      for (const member of back) {
        const disk = losesDisk ? 'lost' : 'kept';
        losesDisk = random.fraction() < 0.3;
        if (disk === 'lost') {
          const elsewhere = new Set(
            crowd.members
              .filter((other) => other !== member)
              .flatMap((other) => [...other.log.added()].map((event) => event.hash)),
          );
          for (const event of member.log.added()) if (!elsewhere.has(event.hash)) perished.add(event.hash);
        }
        crowd.restart(member, disk);
        tell(`a host comes back, its disk ${disk}`);
      }
    } else if (blow === 'skew') {
      for (const member of new Set([pick(up()), ...some(0.05)]))
        member.skew = Math.floor((random.fraction() - 0.5) * 40_000);
      tell('clocks are set');
    } else if (blow === 'join') {
      const by = up().find((member) => member.machine.holdReason() === undefined);
      if (by !== undefined) crowd.join(by);
      tell('a host joins');
    } else if (blow === 'leave') {
      // Views are shared: everybody would believe a departure that went down with its only copy.
      crowd.groups = undefined;
      crowd.loss = 0;
      const member = pick(up().filter((one) => one.machine.holdReason() === undefined));
      crowd.leave(member);
      time.advance(2_000);
      crowd.kill(member);
      gone.add(member);
      tell('one network without loss, and a host leaves');
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
