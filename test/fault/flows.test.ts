/**
 * 5,000 flows at once through two native relays: every byte right, every flow ends, and nothing stays behind; then the exit
 * is killed under 5,000 more. Prints descriptors and memory of both before and after.
 */
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import type { Socket } from 'node:net';
import { finished } from 'node:stream/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { type EngineHost, SERVER, startLab } from '../kernel/engines/lab.ts';
import { until } from '../unit/engines/tproxy/stream-ends.ts';

t.setTimeout(1_200_000);
const FLOWS = Number(process.env['ARCTIC_FLOWS'] ?? 5_000);
/** Connections under way at once while all are opened: a listener's backlog is finite. */
const OPENING = 250;
const PART = 8_192;

const lab = await startLab('native', 'native');
t.teardown(() => lab.stop());
await lab.serve(4, 5_000, (socket) => socket.pipe(socket));

const residentKb = (host: EngineHost): number =>
  Number(readFileSync(`/proc/${host.pid}/status`, 'utf8').match(/VmRSS:\s+(\d+)/)?.[1]);

async function activeFlows(host: EngineHost): Promise<number> {
  const services = Object.values((await host.stats()).services);
  return services.reduce((sum, { entry, exit }) => sum + entry.active + exit.active, 0);
}

/** Descriptors that are not links. */
async function descriptors(host: EngineHost): Promise<number> {
  const carriers = Object.values((await lab.entry.stats()).carriers);
  return host.descriptors() - carriers.reduce((sum, { idle, leased }) => sum + idle + leased, 0);
}

async function say(t: { comment(text: string): void }, when: string): Promise<void> {
  for (const [name, host] of [
    ['entry', lab.entry],
    ['exit', lab.exit],
  ] as const) {
    t.comment(
      `${when}: ${name} has ${await descriptors(host)} descriptors beside links, ${residentKb(host)} kB`,
    );
  }
}

interface Echo {
  readonly socket: Socket;
  readonly sent: ReturnType<typeof createHash>;
  readonly got: ReturnType<typeof createHash>;
  bytes: number;
  answered: number;
}

/** Connects, and has the first part echoed. */
async function open(): Promise<Echo> {
  const socket = lab.dial(SERVER.v4, 5_000);
  const echo: Echo = {
    socket,
    sent: createHash('sha256'),
    got: createHash('sha256'),
    bytes: 0,
    answered: 0,
  };
  socket.on('error', () => undefined);
  socket.on('data', (chunk: Buffer) => {
    echo.got.update(chunk);
    echo.answered += chunk.length;
  });
  speak(echo);
  while (echo.answered < echo.bytes) await once(socket, 'data');
  return echo;
}

/** Another part of the flow's own bytes. */
function speak(echo: Echo): void {
  const part = randomBytes(1 + Math.floor(Math.random() * PART));
  echo.sent.update(part);
  echo.bytes += part.length;
  echo.socket.write(part);
}

async function openAll(count: number): Promise<readonly Echo[]> {
  const all: Echo[] = [];
  while (all.length < count) {
    const batch = Math.min(OPENING, count - all.length);
    all.push(...(await Promise.all(Array.from({ length: batch }, open))));
  }
  return all;
}

async function finish(echo: Echo): Promise<boolean> {
  for (let part = 0; part < 8; part += 1) speak(echo);
  echo.socket.end();
  await finished(echo.socket).catch(() => undefined);
  return echo.answered === echo.bytes && echo.got.digest().equals(echo.sent.digest());
}

const whenQuiet = (host: EngineHost): Promise<void> =>
  until(async () => (await activeFlows(host)) === 0, 'no flow is left');

t.test(`${FLOWS} flows at once`, { timeout: 600_000 }, async (t) => {
  t.ok((await Promise.all((await openAll(500)).map(finish))).every((right) => right));
  await whenQuiet(lab.exit);
  const before = { entry: await descriptors(lab.entry), exit: await descriptors(lab.exit) };
  await say(t, 'before');
  const all = await openAll(FLOWS);
  t.equal(await activeFlows(lab.entry), FLOWS);
  await say(t, `with ${FLOWS} open`);
  const right = (await Promise.all(all.map(finish))).filter((one) => one).length;
  t.equal(right, FLOWS, 'every flow has its own bytes back');
  await whenQuiet(lab.entry);
  await whenQuiet(lab.exit);
  await until(
    async () => (await descriptors(lab.entry)) <= before.entry,
    'the entry has closed its descriptors',
  );
  await until(
    async () => (await descriptors(lab.exit)) <= before.exit,
    'the exit has closed its descriptors',
  );
  // Memory is given back at the next look after the flows, some seconds later.
  await sleep(6_000);
  await say(t, 'after');
});

t.test('the exit dies under them: each ends, none with a wrong byte', { timeout: 600_000 }, async (t) => {
  const before = await descriptors(lab.entry);
  const all = await openAll(FLOWS);
  const wrong: string[] = [];
  const ends = all.map(async (echo) => {
    const heard: Buffer[] = [];
    const said: Buffer[] = [];
    echo.socket.on('data', (chunk: Buffer) => heard.push(chunk));
    const more = setInterval(() => {
      const part = randomBytes(1 + Math.floor(Math.random() * PART));
      said.push(part);
      echo.socket.write(part);
    }, 200);
    await finished(echo.socket).catch(() => undefined);
    clearInterval(more);
    const got = Buffer.concat(heard);
    if (!Buffer.concat(said).subarray(0, got.length).equals(got)) wrong.push(`${got.length} bytes`);
  });
  setTimeout(() => void lab.exit.kill(), 1_500);
  await Promise.all(ends);
  t.same(wrong, []);
  await whenQuiet(lab.entry);
  await until(async () => (await descriptors(lab.entry)) <= before, 'the entry has closed its descriptors');
  t.comment(
    `after the exit died: entry has ${await descriptors(lab.entry)} descriptors, ${residentKb(lab.entry)} kB`,
  );
});
