import { join } from 'node:path';
import Database from 'better-sqlite3';
import t from 'tap';
import { canonicalJson, eventPreimage } from '../../../events/canonical.ts';
import { hashPreimage, signTransaction } from '../../../events/chain.ts';
import { formatCheckpoint, logName, parseCheckpoint } from '../../../events/checkpoint.ts';
import { createSigner } from '../../../events/ed25519.ts';
import type { AnyEvent } from '../../../events/envelope.ts';
import type { Log } from '../../../events/log-contract.ts';
import { INSERT_EVENT, rowOf } from '../../../events/log-rows.ts';
import { decodeFrontier, EMPTY_FRONTIER, extend, rootOf } from '../../../events/merkle.ts';
import { formatNote, parseNote, signNote } from '../../../events/signed-note.ts';
import { verifyLog } from '../../../events/verify.ts';
import { createWitness } from '../../../events/witness.ts';
import {
  agentStarted,
  keyOf,
  openHost,
  operator,
  overTheWire,
  routeAdded,
  seedOf,
  setClock,
  temporaryDirectory,
} from './given-log.ts';

const clock = setClock();
const witnessFor = (log: Log, n: number) => createWitness({ log, signer: createSigner(seedOf(n)), clock });

/** Everything of one host's that another lacks. */
const ship = (from: Log, n: number, to: Log) =>
  to.receive(
    from.origin,
    keyOf(n),
    overTheWire(from.range(from.origin, (to.versionVector()[from.origin] ?? 0) + 1, 500)),
  );

function grow(log: Log, count: number): void {
  const from = log.head;
  for (let i = 1; i <= count; i += 1)
    log.append(i % 3 === 0 ? [routeAdded(from + i), agentStarted] : [routeAdded(from + i)], operator);
}

/** The whole history signed anew with the host's own key, from one changed event on: what only the host itself can do. */
function rewrite(path: string, n: number, seq: number, keepCheckpoints: boolean): void {
  const signer = createSigner(seedOf(n));
  const log = openHost({ path, n, verify: 'none' });
  const events = [...log.pages({}, { asWritten: true })].flat();
  log.close();
  const db = new Database(path);
  db.pragma('foreign_keys = OFF');
  db.exec(
    'DROP TRIGGER IF EXISTS events_no_update; DROP TRIGGER IF EXISTS events_no_delete; DELETE FROM events; DELETE FROM event_keys; DELETE FROM idempotency',
  );
  if (!keepCheckpoints) db.exec('DELETE FROM checkpoints');
  const last = new Map<string, string>();
  const insert = db.prepare(INSERT_EVENT);
  for (const event of events) {
    const data =
      event.stream === 'config' && event.seq === seq ? { ...event.data, priority: 777 } : event.data;
    const changed = {
      ...event,
      data,
      prev_hash: last.get(event.stream) ?? event.prev_hash,
    } as AnyEvent;
    const body = eventPreimage(changed, canonicalJson(data));
    const hash = hashPreimage(body);
    const signature = event.signature === null ? null : signTransaction(signer, hash);
    insert.run(rowOf({ ...changed, hash, signature } as AnyEvent, body, 1));
    last.set(event.stream, hash);
  }
  for (const [stream, hash] of last)
    db.prepare('UPDATE chain_heads SET hash = ? WHERE stream = ?').run(hash, stream);
  db.close();
}

t.test('a long history is hashed in several calls, by its host and by a witness', async (t) => {
  const directory = temporaryDirectory(t);
  const log = openHost({ path: join(directory, 'a.db'), n: 1 });
  const other = openHost({ path: join(directory, 'b.db'), n: 2 });
  t.teardown(() => {
    log.close();
    other.close();
  });
  grow(log, 25);
  ship(log, 1, other);
  const signer = createSigner(seedOf(1));
  const slow = createWitness({ log, signer, clock, atOnce: 10 });
  t.notOk(slow.advance(), '10 of 25, and 15 are more than one call may take');
  t.ok(slow.advance(), 'what is left can be done at once');
  const note = slow.checkpoint() ?? '';
  t.equal(parseNote(note)?.text, parseNote(witnessFor(log, 1).checkpoint() ?? '')?.text);
  const witness = createWitness({ log: other, signer: createSigner(seedOf(2)), clock, atOnce: 10 });
  const judge = () => witness.judge(log.origin, keyOf(1), note);
  t.strictSame(judge(), { kind: 'waiting', have: 10 });
  t.strictSame(judge(), { kind: 'waiting', have: 20 });
  t.match(judge(), { kind: 'cosigned' });
  grow(log, 3);
  t.ok(slow.advance());
  t.match(witness.judge(log.origin, keyOf(1), note), { kind: 'cosigned' }, 'an older one too');
});

t.test(
  'a checkpoint is made when there is news, cosigned by who holds the events, and verifies offline',
  async (t) => {
    const directory = temporaryDirectory(t);
    const path = join(directory, 'a.db');
    const a = openHost({ path });
    const b = openHost({ path: join(directory, 'b.db'), n: 2 });
    const [ofA, ofB] = [witnessFor(a, 1), witnessFor(b, 2)];
    t.equal(ofA.checkpoint(), undefined, 'nothing to sign for');
    grow(a, 10);
    const note = ofA.checkpoint() ?? '';
    t.equal(ofA.checkpoint(), note, 'no news, no new one');
    t.same(parseCheckpoint(parseNote(note)?.text ?? '')?.size, a.versionVector()[a.origin]);
    t.match(ofB.judge(a.origin, keyOf(1), note), { kind: 'waiting', have: 0 });
    ship(a, 1, b);
    const verdict = ofB.judge(a.origin, keyOf(1), note);
    if (verdict.kind !== 'cosigned') throw new Error(`it was ${verdict.kind}`);
    t.same(ofB.judge(a.origin, keyOf(1), note), verdict, 'asked again, the same answer');
    t.ok(ofA.collect(b.origin, keyOf(2), verdict.note));
    t.ok(ofA.collect(b.origin, keyOf(2), verdict.note), 'once more is once');
    t.notOk(ofA.collect(b.origin, keyOf(3), verdict.note), 'under another key it is not that witness');
    t.equal(parseNote(ofA.newest()?.note ?? '')?.signatures.length, 2);

    for (let i = 0; i < 12; i += 1) {
      grow(a, 5);
      const next = ofA.checkpoint() ?? '';
      ship(a, 1, b);
      t.equal(ofB.judge(a.origin, keyOf(1), next).kind, 'cosigned');
    }
    t.equal(a.checkpoints.all().length, 8, 'the newest few are kept');
    ship(b, 2, a);
    a.close();
    b.close();
    t.match(verifyLog({ path }), { fault: undefined, checkpoints: 8 });
    t.match(verifyLog({ path: join(directory, 'b.db') }), { fault: undefined, checkpoints: 8 });
    openHost({ path, verify: 'tail' }).close();
  },
);

t.test('what is not a checkpoint of that origin is refused', async (t) => {
  const directory = temporaryDirectory(t);
  const a = openHost({ path: join(directory, 'a.db') });
  const b = openHost({ path: join(directory, 'b.db'), n: 2 });
  grow(a, 4);
  ship(a, 1, b);
  const [ofA, ofB] = [witnessFor(a, 1), witnessFor(b, 2)];
  const note = ofA.checkpoint() ?? '';
  for (const [offered, reason] of [
    ['nonsense', /no checkpoint/],
    [note.replace(/\n4\n|\n5\n/, '\n3\n'), /not signed/],
    [note.replaceAll(a.origin, b.origin), /is a checkpoint of/],
  ] as const)
    t.match(ofB.judge(a.origin, keyOf(1), offered), { kind: 'refused', reason });
  t.match(ofB.judge(a.origin, keyOf(3), note), { kind: 'refused', reason: /not signed/ });
  t.match(ofA.judge(a.origin, keyOf(1), note), { kind: 'refused' }, 'nobody witnesses for himself');
  a.close();
  b.close();
});

t.test('an origin that rewrites its past is caught by its witness, and by its own checkpoints', async (t) => {
  const directory = temporaryDirectory(t);
  const path = join(directory, 'a.db');
  const honest = openHost({ path });
  const b = openHost({ path: join(directory, 'b.db'), n: 2 });
  grow(honest, 30);
  ship(honest, 1, b);
  const ofB = witnessFor(b, 2);
  t.equal(ofB.judge(honest.origin, keyOf(1), witnessFor(honest, 1).checkpoint() ?? '').kind, 'cosigned');
  honest.close();

  rewrite(path, 1, 5, true);
  t.match(verifyLog({ path }).fault, { reason: /first 30 events.*changed after it was signed/ });

  rewrite(path, 1, 5, false);
  t.equal(verifyLog({ path }).fault, undefined, 'with the checkpoints gone too, the file alone looks sound');
  const rewritten = openHost({ path });
  const verdict = ofB.judge(rewritten.origin, keyOf(1), witnessFor(rewritten, 1).checkpoint() ?? '');
  t.match(verdict, { kind: 'inconsistent', size: 30 });
  if (verdict.kind === 'inconsistent') t.not(verdict.held, verdict.offered);

  // Two checkpoints of one size are a contradiction also when only the text differs from what the events give.
  const text = formatCheckpoint({ origin: rewritten.origin, size: 10, root: Buffer.alloc(32, 7) });
  const forged = formatNote({
    text,
    signatures: [signNote(text, logName(rewritten.origin), createSigner(seedOf(1)))],
  });
  t.match(ofB.judge(rewritten.origin, keyOf(1), forged), { kind: 'inconsistent', size: 10 });
  rewritten.close();
  b.close();
});

t.test('a log whose end was cut off is not opened, and says so', async (t) => {
  const directory = temporaryDirectory(t);
  const path = join(directory, 'a.db');
  const log = openHost({ path });
  for (let i = 1; i <= 20; i += 1) log.append([routeAdded(i)], operator);
  witnessFor(log, 1).checkpoint();
  log.close();
  const db = new Database(path);
  db.pragma('foreign_keys = OFF');
  db.exec(
    'DROP TRIGGER events_no_delete; DELETE FROM events WHERE position > 15; DELETE FROM event_keys WHERE position > 15; ' +
      "UPDATE chain_heads SET (seq, hash, hlc) = (SELECT body ->> 'seq', hash, body ->> 'hlc' FROM events WHERE position = 15)",
  );
  db.close();
  const reason = /covers 20 config events.*ends with event 15: its end was cut off/;
  t.match(verifyLog({ path }).fault, { reason });
  for (const verify of ['tail', 'full'] as const)
    t.throws(() => openHost({ path, verify }), { trouble: 'damaged', message: reason });
});

t.test('a cosignature or checkpoint that was altered in the database is found', async (t) => {
  const directory = temporaryDirectory(t);
  const path = join(directory, 'a.db');
  const log = openHost({ path });
  grow(log, 3);
  witnessFor(log, 1).checkpoint();
  log.close();
  const db = new Database(path);
  db.exec("UPDATE checkpoints SET note = replace(note, 'arctic/', 'arctik/')");
  db.close();
  t.match(verifyLog({ path }).fault, { reason: /not that of a checkpoint/ });
  t.throws(() => openHost({ path }), { trouble: 'damaged', message: /checkpoint over the first/ });
});

t.test('a stored tree that was altered is found, and nothing is signed or accused over it', async (t) => {
  const directory = temporaryDirectory(t);
  const paths = [join(directory, 'a.db'), join(directory, 'b.db')] as const;
  const [log, other] = [openHost({ path: paths[0], n: 1 }), openHost({ path: paths[1], n: 2 })];
  grow(log, 6);
  ship(log, 1, other);
  const note = witnessFor(log, 1).checkpoint() ?? '';
  t.match(witnessFor(other, 2).judge(log.origin, keyOf(1), note), { kind: 'cosigned' });
  for (const path of paths) {
    const db = new Database(path);
    const { frontier } = db.prepare('SELECT frontier FROM checkpoints').get() as { frontier: string };
    // It decodes still; only its root is another.
    const swapped = frontier.replace(/ (.)/, (_, first) => ` ${first === 'A' ? 'B' : 'A'}`);
    t.ok(decodeFrontier(swapped));
    db.prepare('UPDATE checkpoints SET frontier = ?').run(swapped);
    db.close();
  }
  grow(log, 2);
  ship(log, 1, other);
  const next = witnessFor(log, 1).checkpoint() ?? '';
  const whole = extend(
    EMPTY_FRONTIER,
    log.range(log.origin, 1, 500).map(({ hash }) => Buffer.from(hash, 'hex')),
  );
  t.same(parseCheckpoint(parseNote(next)?.text ?? '')?.root, rootOf(whole), 'the host signs what it has');
  t.match(witnessFor(other, 2).judge(log.origin, keyOf(1), next), { kind: 'cosigned' }, 'and is believed');
  for (const one of [log, other]) one.close();
  for (const [index, path] of paths.entries()) {
    const reason = /the tree stored beside it is not the one it was signed over/;
    t.match(verifyLog({ path }).fault, { reason });
    t.throws(() => openHost({ path, n: index + 1 }), { trouble: 'damaged', message: reason });
  }
});
