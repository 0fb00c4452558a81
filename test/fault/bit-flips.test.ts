/** A bit flipped anywhere in the file: reported, or without effect; never another projection in silence. */
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { createSigner } from '../../events/ed25519.ts';
import { openLogReader } from '../../events/log.ts';
import { LogError } from '../../events/log-errors.ts';
import { verifyLog } from '../../events/verify.ts';
import { createWitness } from '../../events/witness.ts';
import { foldAll } from '../../projections/replay.ts';
import { createProjections } from '../../projections/runner.ts';
import {
  agentStarted,
  openHost,
  operator,
  routeAdded,
  routeUpdated,
  seededRandom,
  seedOf,
  setClock,
  temporaryDirectory,
} from '../unit/events/given-log.ts';

const FLIPS = process.env['ARCTIC_LONG'] === '1' ? 1_000 : 200;
const SEED = Number(process.env['ARCTIC_SEED'] ?? Date.now() % 1_000_000);
const clock = setClock();
t.setTimeout(1_800_000);

/** As an agent starts: the check of the tail, the snapshot, what follows it. */
function started(path: string): string {
  const log = openHost({ path, clock });
  try {
    const projections = createProjections({ localPeer: log.origin }, { log, clock });
    projections.start();
    const digest = projections.digest();
    projections.stop();
    return digest;
  } finally {
    log.close();
  }
}

/** As `replay --db`: every event, no check before. */
async function replayed(path: string): Promise<string> {
  const log = openLogReader({ path });
  try {
    return await foldAll(log, (fold) => fold.digest());
  } finally {
    log.close();
  }
}

/** The digest, or undefined when the damage was reported. Anything but a LogError is a fault of the product. */
async function outcome(run: () => string | Promise<string>): Promise<string | undefined> {
  try {
    return await run();
  } catch (error) {
    if (error instanceof LogError) return undefined;
    throw error;
  }
}

t.test(`${FLIPS} flipped bits`, async (t) => {
  const directory = temporaryDirectory(t);
  const path = join(directory, 'arctic.db');
  const log = openHost({ path, clock });
  const projections = createProjections({ localPeer: log.origin }, { log, clock });
  projections.start();
  for (let i = 1; i <= 250; i += 1)
    log.append([routeAdded(i), ...(i % 4 === 0 ? [agentStarted] : [])], operator);
  createWitness({ log, signer: createSigner(seedOf(1)), clock }).checkpoint();
  projections.stop();
  for (let i = 1; i <= 60; i += 1) log.append([routeUpdated(i, i)], operator);
  log.close();
  const sound = readFileSync(path);
  const digest = await replayed(path);
  t.equal(started(path), digest);

  const random = seededRandom(SEED * 2 + 1);
  const seen = { reported: 0, verified: 0, harmless: 0 };
  const silent: string[] = [];
  const flipped = join(directory, 'flipped.db');
  for (let n = 0; n < FLIPS; n += 1) {
    const at = Math.floor(random.fraction() * sound.length);
    const bit = Math.floor(random.fraction() * 8);
    const bytes = Buffer.from(sound);
    bytes[at] = (bytes[at] ?? 0) ^ (1 << bit);
    for (const suffix of ['-wal', '-shm']) rmSync(flipped + suffix, { force: true });
    writeFileSync(flipped, bytes);
    const found = await outcome(() => replayed(flipped));
    const verified = await outcome(() =>
      verifyLog({ path: flipped }).fault === undefined ? 'sound' : 'faulty',
    );
    // Last: it opens for writing.
    const live = await outcome(() => started(flipped));
    const what = `byte ${at} (page ${Math.floor(at / 4_096) + 1}, offset ${at % 4_096}) bit ${bit}`;
    if (found !== undefined && found !== digest) silent.push(`${what}: replay gave another projection`);
    if (live !== undefined && live !== digest)
      silent.push(`${what}: the agent would start with another projection`);
    if (found === undefined || live === undefined) seen.reported += 1;
    else if (verified !== 'sound') seen.verified += 1;
    else seen.harmless += 1;
  }
  t.comment(
    `seed ${SEED}: ${FLIPS} flips in ${sound.length} bytes: ${seen.reported} reported at start or by reading, ` +
      `${seen.verified} by verification, ${seen.harmless} without effect`,
  );
  t.same(silent, []);
});
