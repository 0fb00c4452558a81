/**
 * What the fault tests let fail and kill: writes to a log and says on stdout what it was told is durable, a line each:
 * `open`, `ack POSITION HASH`, `refused CODE`, `unopened CODE`, `done`.
 *
 *   node --import=tsx test/fault/writer.ts DATABASE APPENDS
 */
import { writeSync } from 'node:fs';
import { systemClock, systemRandom } from '../../events/clock.ts';
import { createSigner } from '../../events/ed25519.ts';
import { ArcticError } from '../../events/errors.ts';
import { openLog } from '../../events/log.ts';
import type { Log } from '../../events/log-contract.ts';
import { createWitness } from '../../events/witness.ts';
import { agentStarted, operator, routeAdded, seedOf } from '../unit/events/given-log.ts';

const [, , path = '', appends = '0'] = process.argv;
const say = (line: string): void => void writeSync(1, `${line}\n`);
/** What is no refusal of ours is a fault of the product: the process dies of it and the test sees that. */
const codeOf = (error: unknown): string => {
  if (error instanceof ArcticError && error.code !== 'INTERNAL') return error.code;
  throw error;
};

const signer = createSigner(seedOf(1));
const open = (): Log =>
  openLog(
    { path },
    {
      signer,
      clock: systemClock,
      random: systemRandom,
      onError: (error) => {
        throw error;
      },
    },
  );

let log: Log | undefined;
try {
  log = open();
  say('open');
} catch (error) {
  say(`unopened ${codeOf(error)}`);
}

if (log !== undefined) {
  const witness = createWitness({ log, signer, clock: systemClock });
  const attempt = (run: () => void): void => {
    try {
      run();
    } catch (error) {
      say(`refused ${codeOf(error)}`);
    }
  };
  for (let i = 1; i <= Number(appends); i += 1) {
    const opened = log;
    attempt(() => {
      const from = opened.head;
      const batch =
        i % 5 === 0 ? Array.from({ length: 20 }, (_, k) => routeAdded(from + k + 1)) : [routeAdded(from + 1)];
      const events = opened.append([...batch, ...(i % 3 === 0 ? [agentStarted] : [])], operator);
      say(events.map((event) => `ack ${event.position} ${event.hash}`).join('\n'));
    });
    // What is remembered must be what is stored, also after a refusal.
    attempt(() => {
      const [last] = opened.read({ after: (opened.head - 1) as typeof opened.head });
      if (opened.head > 0 && last?.position !== opened.head)
        throw new Error(`the head ${opened.head} is not there`);
    });
    if (i % 7 === 0) attempt(() => void witness.checkpoint());
    if (i % 9 === 0)
      attempt(() =>
        opened.snapshots.put('views', {
          position: opened.head,
          digest: 'x',
          foldVersion: 1,
          state: Buffer.alloc(20_000, i),
        }),
      );
  }
  attempt(() => log?.close());
  say('done');
}
