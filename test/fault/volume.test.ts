/**
 * Much traffic of every shape through two native relays, over TCP and over KCP, every byte compared with what was sent: full
 * duplex, half-closes in either order, resets by either end in the middle, single bytes, slow readers, links torn under it. No
 * wrong byte, no flow that hangs or looks whole and is not, no descriptor or memory that stays.
 *
 * ARCTIC_VOLUME_GB: how much over each transport, both directions together; 3 by default.
 */
import { randomBytes, randomInt } from 'node:crypto';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import type { Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { type EngineHost, type Lab, SERVER, startLab, type Transport } from '../kernel/engines/lab.ts';
import { consume, resetSocket, until } from '../unit/engines/tproxy/stream-ends.ts';

t.setTimeout(6_000_000);
const GIGABYTES = Number(process.env['ARCTIC_VOLUME_GB'] ?? 3);
const PORT = 5_000;
const AT_ONCE = 12;
/** Both directions of every flow are windows of this, from a place of their own. */
const RING = randomBytes(1 << 24);
const PIECE = 1 << 18;
const HEADER = 4;
const FLOW_MS = 240_000;
const TEAR_MS = 3_000;
/** What a relay may hold beyond what it held when it had carried a tenth. */
const GROWTH_KB = 64 * 1024;

const ENDINGS = ['together', 'client first', 'server first', 'client resets', 'server resets'] as const;
const SHAPES = ['bulk', 'bulk', 'short', 'single bytes', 'slow readers'] as const;

interface Plan {
  readonly ending: (typeof ENDINGS)[number];
  readonly shape: (typeof SHAPES)[number];
  readonly up: Stream;
  readonly down: Stream;
  readonly served: (socket: Socket, head: Buffer) => void;
}

interface Stream {
  readonly bytes: number;
  readonly base: number;
  arrived: number;
  right: boolean;
}

const pick = <T>(from: readonly T[]): T => from[randomInt(from.length)] as T;

function stream(shape: Plan['shape']): Stream {
  const most = { bulk: 200e6, short: 60e3, 'single bytes': 4e3, 'slow readers': 3e6 }[shape];
  return { bytes: randomInt(1, most), base: randomInt(RING.length), arrived: 0, right: true };
}

/** Compares what comes with what was sent. */
function arrive(of: Stream, chunk: Buffer): void {
  for (let at = 0; at < chunk.length; ) {
    const from = (of.base + of.arrived) % RING.length;
    const length = Math.min(chunk.length - at, RING.length - from);
    if (RING.compare(chunk, at, at + length, from, from + length) !== 0) of.right = false;
    at += length;
    of.arrived += length;
  }
  if (of.arrived > of.bytes) of.right = false;
}

async function drained(socket: Socket): Promise<void> {
  const over = new AbortController();
  const either = ['drain', 'close'].map((event) => once(socket, event, { signal: over.signal }));
  await Promise.race(either).catch(() => undefined);
  over.abort();
  await Promise.allSettled(either);
}

/** Writes the stream up to `until`; returns early when the socket is gone. */
async function send(socket: Socket, of: Stream, shape: Plan['shape'], upTo = of.bytes): Promise<void> {
  for (let at = 0; at < upTo && socket.writable; ) {
    const from = (of.base + at) % RING.length;
    const piece = shape === 'single bytes' ? 1 : 1 + randomInt(PIECE);
    const length = Math.min(piece, upTo - at, RING.length - from);
    at += length;
    if (!socket.write(RING.subarray(from, from + length))) await drained(socket);
    else if (shape === 'single bytes' && at % 8 === 0) await sleep(0);
  }
}

/** How reading ends: `end`, the name of an error, or `closed` where this end has closed it itself. */
async function receive(socket: Socket, shape: Plan['shape'], take: (chunk: Buffer) => void): Promise<string> {
  const slowly = (chunk: Buffer): void => {
    take(chunk);
    socket.pause();
    setTimeout(() => socket.resume(), 2);
  };
  const read = consume(socket, shape === 'slow readers' ? slowly : take).then(
    () => 'end',
    (error: unknown) => (error instanceof Error && 'code' in error ? String(error.code) : String(error)),
  );
  // An error is told before the close.
  const closed = new Promise<string>((resolve) =>
    socket.once('close', () => setImmediate(resolve, 'closed')),
  );
  return await Promise.race([read, closed]);
}

interface Side {
  readonly socket: Socket;
  readonly ended: Promise<string>;
}

/** One end's part. `out` is what it sends; it resets where the plan says so, half way. */
async function speak(
  { socket, ended }: Side,
  { ending, shape }: Plan,
  name: 'client' | 'server',
  out: Stream,
): Promise<void> {
  if (ending === `${name} resets`) {
    await send(socket, out, shape, Math.ceil(out.bytes / 2));
    resetSocket(socket);
    return;
  }
  const other = name === 'client' ? 'server' : 'client';
  // Ends its own direction only when the other's has ended: the answer after FIN.
  if (ending === `${other} first` && (await ended) !== 'end') return;
  await send(socket, out, shape);
  if (socket.writable) socket.end();
}

interface Tally {
  bytes: number;
  flows: number;
  readonly kinds: Map<string, number>;
}

/** Links that were to be torn, and those of them that have been. */
interface Tears {
  begun: number;
  done: number;
}

/** A way to play one flow after the other; each answers what went wrong, if anything. */
function player(lab: Lab, plans: Map<number, Plan>, tally: Tally, tears: Readonly<Tears>) {
  let next = 0;
  return async (): Promise<string | undefined> => {
    next += 1;
    const id = next;
    // All pairs, one after the other.
    const ending = ENDINGS[Math.floor(id / SHAPES.length) % ENDINGS.length] ?? 'together';
    const shape = SHAPES[id % SHAPES.length] ?? 'bulk';
    const [up, down] = [stream(shape), stream(shape)];
    const tornBefore = tears.done;
    let heard = (_: Side): void => undefined;
    const served = new Promise<Side>((resolve) => {
      heard = resolve;
    });
    const plan: Plan = {
      ...{ ending, shape, up, down },
      served(socket, head) {
        arrive(up, head);
        heard({ socket, ended: receive(socket, shape, (chunk) => arrive(up, chunk)) });
      },
    };
    plans.set(id, plan);
    const socket = lab.dial(SERVER.v4, PORT);
    const client: Side = { socket, ended: receive(socket, shape, (chunk) => arrive(down, chunk)) };
    const header = Buffer.alloc(HEADER);
    header.writeUInt32BE(id);
    socket.write(header);

    const atClient = speak(client, plan, 'client', up).then(() => client.ended);
    const atServer = served.then(async (side) => {
      await speak(side, plan, 'server', down);
      return side.ended;
    });
    // Torn before the server has heard of it, it ends at the client alone.
    const unheard = atClient.then((end) => (end === 'end' ? atServer : sleep(5_000, 'unheard')));
    const limit = new AbortController();
    const late = sleep(FLOW_MS, undefined, { signal: limit.signal }).catch(() => undefined);
    const ends = await Promise.race([Promise.all([atClient, Promise.race([atServer, unheard])]), late]);
    limit.abort();
    socket.destroy();
    plans.delete(id);

    tally.flows += 1;
    tally.bytes += up.arrived + down.arrived;
    const kind = `${ending}, ${shape}`;
    tally.kinds.set(kind, (tally.kinds.get(kind) ?? 0) + 1);
    const what = `flow ${id}, ${kind}: ${up.arrived} of ${up.bytes} up, ${down.arrived} of ${down.bytes} down, ends ${ends}`;
    if (!up.right || !down.right) return `wrong bytes: ${what}`;
    if (ends === undefined) return `hangs: ${what}`;
    const [clientEnd, serverEnd] = ends;
    if (clientEnd === 'end' && down.arrived < down.bytes) return `looks whole to the client: ${what}`;
    if (serverEnd === 'end' && up.arrived < up.bytes) return `looks whole to the server: ${what}`;
    const whole = clientEnd === 'end' && serverEnd === 'end';
    return whole || ending.endsWith('resets') || tears.begun > tornBefore ? undefined : `broken: ${what}`;
  };
}

async function accept(lab: Lab, plans: ReadonlyMap<number, Plan>): Promise<void> {
  await lab.serve(4, PORT, (socket) => {
    let head = Buffer.alloc(0);
    const first = (chunk: Buffer): void => {
      head = Buffer.concat([head, chunk]);
      if (head.length < HEADER) return;
      socket.off('data', first);
      plans.get(head.readUInt32BE())?.served(socket, head.subarray(HEADER));
    };
    socket.on('data', first);
    socket.resume();
  });
}

const residentKb = (host: EngineHost): number =>
  Number(readFileSync(`/proc/${host.pid}/status`, 'utf8').match(/VmRSS:\s+(\d+)/)?.[1]);

interface Held {
  readonly descriptors: number;
  readonly kb: number;
}

/** What both relays hold when no flow is left. Descriptors of links do not count, nor memory that is given back within seconds. */
async function held(lab: Lab): Promise<readonly [entry: Held, exit: Held]> {
  const one = async (host: EngineHost): Promise<Held> => {
    await until(async () => {
      const services = Object.values((await host.stats()).services);
      return services.every(({ entry, exit }) => entry.active + exit.active === 0);
    }, 'no flow is left');
    await sleep(6_000);
    // As many at either end; only the entry, which dials them, says how many.
    const carriers = Object.values((await lab.entry.stats()).carriers);
    const links = carriers.reduce((sum, { idle, leased }) => sum + idle + leased, 0);
    return { descriptors: host.descriptors() - links, kb: residentKb(host) };
  };
  return Promise.all([one(lab.entry), one(lab.exit)]);
}

/** Has the kernel abort one of the links. */
async function tearOne(lab: Lab): Promise<void> {
  const links = (await lab.spaces.entry.exec('ss', '-Htn', 'dport', '=', ':61000')).split('\n').slice(0, -1);
  const port = /:(\d+)\s+\S+:61000/.exec(links.length > 0 ? pick(links) : '')?.[1];
  if (port !== undefined) await lab.spaces.entry.exec('ss', '-HtnK', 'sport', '=', `:${port}`);
}

async function carry(t: Test, transport: Transport): Promise<void> {
  const lab = await startLab('native', 'native', transport);
  t.teardown(() => lab.stop());
  const plans = new Map<number, Plan>();
  await accept(lab, plans);
  const tally: Tally = { bytes: 0, flows: 0, kinds: new Map() };
  const tears: Tears = { begun: 0, done: 0 };
  const play = player(lab, plans, tally, tears);
  const wrong: string[] = [];
  const carryUpTo = async (bytes: number): Promise<void> => {
    const worker = async (): Promise<void> => {
      while (tally.bytes < bytes && wrong.length < 10) {
        const said = await play();
        if (said !== undefined) wrong.push(said);
      }
    };
    await Promise.all(Array.from({ length: AT_ONCE }, worker));
  };
  const say = (when: string, [entry, exit]: readonly [Held, Held]): void =>
    t.comment(
      `${when}, ${(tally.bytes / 1e9).toFixed(1)} GB in ${tally.flows} flows, ${tears.done} links torn: entry ${entry.descriptors} descriptors beside links, ${entry.kb} kB; exit ${exit.descriptors}, ${exit.kb} kB`,
    );

  await carryUpTo(GIGABYTES * 1e8);
  const before = await held(lab);
  say('a tenth', before);
  const tearing = setInterval(() => {
    // A flow may end of it before the command does, or begin after that was given.
    tears.begun += 1;
    void tearOne(lab).finally(() => {
      tears.done += 1;
    });
  }, TEAR_MS);
  t.teardown(() => clearInterval(tearing));
  // Over KCP there is no connection to tear.
  if (transport === 'kcp') clearInterval(tearing);
  await carryUpTo(GIGABYTES * 1e9);
  clearInterval(tearing);
  const after = await held(lab);
  say('all', after);
  for (const [kind, count] of [...tally.kinds].sort()) t.comment(`${kind}: ${count}`);

  t.same(wrong, []);
  t.equal(tally.kinds.size, ENDINGS.length * new Set(SHAPES).size, 'every ending has met every shape');
  for (const side of [0, 1] as const) {
    t.ok(after[side].descriptors <= before[side].descriptors, 'no descriptor stays');
    t.ok(after[side].kb <= before[side].kb + GROWTH_KB, 'nor memory');
  }
}

for (const transport of ['tcp', 'kcp'] as const) {
  t.test(`${GIGABYTES} GB over ${transport}`, { timeout: 3_000_000 }, (t) => carry(t, transport));
}
