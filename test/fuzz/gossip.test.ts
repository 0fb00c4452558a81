/**
 * A member gone bad: it holds genuine session keys, so whatever it says opens. It says recorded requests with their insides
 * changed. Nothing it says may throw, take long, or put anything into the log that its origin did not sign; the honest members
 * still agree afterwards. FUZZ_SECONDS and FUZZ_SEED set how long and from where.
 */
import t from 'tap';
import { GOSSIP_PATH } from '../../src/gossip/messages.ts';
import { open, seal, sealedHeader } from '../../src/gossip/seal.ts';
import { seededRandom } from '../simulation/virtual-clock.ts';
import { type Node, World } from '../simulation/world.ts';

const seconds = Number(process.env['FUZZ_SECONDS'] ?? 10);
const seed = Number(process.env['FUZZ_SEED'] ?? 1);
const { fraction } = seededRandom(seed);
const below = (count: number): number => Math.floor(fraction() * count);
const pick = <T>(items: readonly T[]): T => items[below(items.length)] as T;

const world = new World(seed);
const [bad, honest, witness] = world.cluster(3) as [Node, Node, Node];
world.time.advance(5_000);

const session = () => {
  const found = bad.running.sessions.forSending(honest.peerId);
  if (found === undefined) throw new Error('the bad member has a session');
  return found;
};
/** What members said to each other, opened. */
const corpus: unknown[] = [];
world.tap = (options, from, to) => {
  if (from !== bad || to !== honest || options.path !== GOSSIP_PATH) return options.body;
  const header = sealedHeader(options.body);
  const { keys, side } = session();
  const context = { role: 'request', method: 'POST', path: GOSSIP_PATH, inReplyTo: 0 } as const;
  const opened = header && open(keys.gossip[side], header, context, options.body);
  if (opened !== undefined) corpus.push(opened.value);
  return options.body;
};
for (let round = 0; round < 5; round += 1) {
  bad.write(`bad-${round}`);
  honest.write(`honest-${round}`);
  world.time.advance(2_000);
}
world.tap = undefined;
corpus.push(
  { kind: 'pull', wants: [[honest.peerId, 0]] },
  { kind: 'offer', vector: [[witness.peerId, 3, 'a'.repeat(64)]] },
  { kind: 'probe', target: witness.peerId },
  { kind: 'probed', target: witness.peerId },
  { kind: 'witness', note: 'arctic\n1\nx\n\n— x y\n' },
);

const EDGES: readonly unknown[] = [
  null,
  true,
  0,
  -1,
  1.5,
  Number.MAX_SAFE_INTEGER,
  2 ** 60,
  '',
  'a'.repeat(64),
  '__proto__',
  'x'.repeat(20_000),
  [],
  {},
  [[]],
  honest.peerId,
  bad.peerId,
  witness.peerId,
  Array.from({ length: 2_000 }, () => [honest.peerId, 1]),
];

/** Changes a few places of a value, at any depth. */
function mutate(value: unknown): unknown {
  const copy: unknown = structuredClone(value);
  const places: [object, string][] = [];
  const visit = (one: unknown): void => {
    if (typeof one !== 'object' || one === null || places.length > 500) return;
    for (const key of Object.keys(one)) {
      places.push([one, key]);
      visit(Reflect.get(one, key));
    }
  };
  visit(copy);
  for (let changes = 1 + below(3); changes > 0 && places.length > 0; changes -= 1) {
    const [holder, key] = pick(places);
    const old: unknown = Reflect.get(holder, key);
    switch (below(5)) {
      case 0:
        Reflect.deleteProperty(holder, key);
        break;
      case 1:
        Reflect.set(holder, key, typeof old === 'number' ? old + pick([-1, 1, 1_000]) : pick(EDGES));
        break;
      case 2:
        if (typeof old === 'string' && old.length > 0) {
          const at = below(old.length);
          Reflect.set(holder, key, old.slice(0, at) + pick([...'0aZ_\u0000é']) + old.slice(at + 1));
        }
        break;
      case 3:
        if (Array.isArray(old))
          Reflect.set(
            holder,
            key,
            [...old, ...old].sort(() => fraction() - 0.5),
          );
        break;
      default:
        Reflect.set(holder, key, pick(EDGES));
    }
  }
  return copy;
}

t.test(`a bad member has no effect (seed ${seed})`, { timeout: (seconds + 120) * 1_000 }, async (t) => {
  const foreign = () => honest.config().filter((event) => event.origin !== bad.peerId).length;
  const held = foreign();
  const end = Date.now() + seconds * 1_000;
  const statuses = new Map<number, number>();
  let cases = 0;
  let slowest = 0;
  while (Date.now() < end) {
    const current = session();
    current.sent += 1;
    const request = mutate(pick(corpus));
    const body = seal(
      current.keys.gossip[current.side],
      { sessionId: current.id, counter: current.sent, time: world.time.clock(() => 0).now() },
      { role: 'request', method: 'POST', path: GOSSIP_PATH, inReplyTo: 0 },
      request,
    );
    const from = performance.now();
    const { status } = honest.running.handle({
      method: 'POST',
      path: GOSSIP_PATH,
      headers: {},
      body,
      remoteAddress: bad.address,
    });
    slowest = Math.max(slowest, performance.now() - from);
    statuses.set(status, (statuses.get(status) ?? 0) + 1);
    cases += 1;
    // What it set going: pulls, probes, checkpoints.
    if (cases % 50 === 0) world.time.advance(50);
    if (cases % 5_000 === 0) world.time.advance(5_000);
  }
  t.comment(`${cases} cases, the slowest ${slowest.toFixed(0)} ms, ${JSON.stringify([...statuses])}`);
  t.ok(cases > 100);
  t.same(
    [...statuses.keys()].filter((status) => ![200, 401, 403, 413].includes(status)),
    [],
  );
  t.equal(foreign(), held, 'no event of anybody else came in');
  honest.write('after');
  t.ok(
    world.until(() => honest.digest() === witness.digest(), 60_000),
    'the honest members agree',
  );
  t.equal(witness.running.observed(honest.peerId).state, 'active');
});
