/** One peer's own parts over a real log in a temporary directory, on a clock of the test. */
import { randomBytes } from 'node:crypto';
import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Clock, Random } from '../../events/clock.ts';
import { createSigner } from '../../events/ed25519.ts';
import { createIds, newPeerId } from '../../events/ids.ts';
import { openLog } from '../../events/log.ts';
import { createProjections } from '../../projections/runner.ts';
import { createExecutor } from '../../src/commands/execute.ts';
import type { Identity } from '../../src/identity/contract.ts';

export const START = Date.parse('2026-03-01T12:00:00Z');

export const random: Random = {
  bytes: (count) => new Uint8Array(randomBytes(count)),
  fraction: () => Math.random(),
};

export class TestClock implements Clock {
  #now = START;
  now() {
    this.#now += 1;
    return this.#now;
  }
  monotonic() {
    return this.#now;
  }
  after(ms: number, run: () => void) {
    const timer = setTimeout(run, ms);
    timer.unref();
    return () => clearTimeout(timer);
  }
  advance(ms: number) {
    this.#now += ms;
  }
}

export const newIdentity = (clock: Clock): Identity => {
  const signer = createSigner(random.bytes(32));
  return { peerId: newPeerId(createIds({ clock, random })), publicKey: signer.publicKey, sign: signer.sign };
};

/** The caller stops the projections, closes the log and removes the directory. */
export function openLocalPeer(prefix: string) {
  const directory = mkdtempSync(join(tmpdir(), prefix));
  const clock = new TestClock();
  const ids = createIds({ clock, random });
  const identity = newIdentity(clock);
  const log = openLog(
    { path: join(directory, 'arctic.db'), origin: identity.peerId },
    {
      signer: identity,
      clock,
      random,
      onError: (error) => {
        throw error;
      },
    },
  );
  const projections = createProjections({ localPeer: identity.peerId }, { log, clock });
  projections.start();
  const { views } = projections;
  const executor = createExecutor({ log, views, clock, ids, random, localPeer: identity.peerId });
  return { directory, clock, ids, identity, log, projections, views, executor };
}
