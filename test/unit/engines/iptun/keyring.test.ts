import { createHash } from 'node:crypto';
import fc from 'fast-check';
import t from 'tap';
import { Keyring } from '../../../../src/engines/iptun/keyring.ts';
import { AES_256_GCM } from '../../../../src/engines/iptun/snapshot.ts';

const REKEY = 1_000;
const options = { rekeyAfterMs: REKEY, rekeyAfterDatagrams: 2 ** 40, aead: AES_256_GCM };
const nothing = { sent: new Map<number, number>(), received: new Map<number, number>() };

/** Keys that name what they are for, so that two ends can be compared. */
const keyFor = (session: string, sender: string, epoch: number): Uint8Array =>
  createHash('sha256').update(`${session} ${sender} ${epoch}`).digest();

function end(name: 'a' | 'b', state: { current: string | undefined }, rekeyAfterMs = REKEY) {
  let ids = 0;
  const other = name === 'a' ? 'b' : 'a';
  return new Keyring(
    'peer',
    { ...options, rekeyAfterMs },
    {
      current: () => (state.current === undefined ? undefined : { sessionId: state.current }),
      tunnelKeys: (_peer, epoch) =>
        state.current === undefined
          ? undefined
          : {
              sessionId: state.current,
              send: keyFor(state.current, name, epoch),
              receive: keyFor(state.current, other, epoch),
            },
    },
    () => {
      ids += 1;
      return ids;
    },
  );
}

const understands = (sender: Keyring, receiver: Keyring): boolean =>
  receiver.receive.some(
    (key) => key.index === sender.send?.index && Buffer.from(key.aes).equals(Buffer.from(sender.send.key)),
  );

t.test("both ends have each other's key, whatever the time and however their clocks started", async (t) => {
  fc.assert(
    fc.property(
      fc.integer({ min: -REKEY, max: REKEY }),
      // How much later the other end learns of the session: its keys change so much later too.
      fc.integer({ min: 0, max: 2 * REKEY }),
      fc.array(fc.integer({ min: 0, max: 3 * REKEY }), { minLength: 1, maxLength: 20 }),
      (skew, late, steps) => {
        const state = { current: 'first' as string | undefined };
        const a = end('a', state);
        const b = end('b', state);
        let now = 10_000;
        a.update(now, nothing);
        now += late;
        a.update(now, nothing);
        b.update(now + skew, nothing);
        for (const step of steps) {
          now += step;
          a.update(now, nothing);
          b.update(now + skew, nothing);
          if (!understands(a, b) || !understands(b, a)) return false;
        }
        return true;
      },
    ),
  );
  t.pass();
});

t.test('a key that was left is never sent under again, however sessions come and go', async (t) => {
  fc.assert(
    fc.property(
      fc.array(
        fc.record({
          wait: fc.integer({ min: 0, max: 5_000 }),
          current: fc.constantFrom('one', 'two', 'three', undefined),
        }),
        { maxLength: 40 },
      ),
      // A session that comes back finds the key it was left under, or a later one.
      fc.constantFrom(REKEY, 60_000),
      (steps, rekeyAfterMs) => {
        const state: { current: string | undefined } = { current: undefined };
        const keyring = end('a', state, rekeyAfterMs);
        const used = new Map<string, number>();
        let now = 0;
        for (const step of steps) {
          now += step.wait;
          state.current = step.current;
          keyring.update(now, nothing);
          const { send } = keyring;
          if (send === undefined) continue;
          const text = Buffer.from(send.key).toString('hex');
          const known = used.get(text);
          // The same key is the same object all the way: its counter goes on.
          if (known !== undefined && known !== send.id) return false;
          used.set(text, send.id);
        }
        return true;
      },
    ),
  );
  t.pass();
});

t.test('a new session waits until the other end surely has it', async (t) => {
  const state = { current: 'old' as string | undefined };
  const keyring = end('a', state);
  t.strictSame(keyring.update(0, nothing), { changed: true, switched: true }, 'the first is used at once');
  t.ok(keyring.unheard(100), 'and the peer may not know');
  t.notOk(keyring.unheard(3_000), 'for a while');
  const before = keyring.send?.index;
  state.current = 'second';
  t.equal(keyring.update(100, nothing).switched, false);
  t.equal(keyring.send?.index, before);
  const heard = new Map([[keyring.receive.at(-1)?.id ?? 0, 1]]);
  t.equal(keyring.update(200, { ...nothing, received: heard }).switched, true, 'the peer uses it');
  t.notOk(keyring.unheard(200));
  t.not(keyring.send?.index, before);
  state.current = 'third';
  t.equal(keyring.update(300, nothing).switched, false);
  t.equal(keyring.update(3_300, nothing).switched, true, 'or some seconds have passed');
});

t.test('what the peer was heard under decides when its clock is ahead', async (t) => {
  const state = { current: 'one' as string | undefined };
  const keyring = end('a', state);
  keyring.update(0, nothing);
  t.equal(keyring.epoch, 0);
  keyring.widen();
  keyring.update(10, nothing);
  t.equal(keyring.receive.length, 65);
  const far = keyring.receive.at(30);
  keyring.update(20, { ...nothing, received: new Map([[far?.id ?? 0, 1]]) });
  t.equal(keyring.epoch, 30);
});

t.test('a count of datagrams ends a key before its time', async (t) => {
  const keyring = end('a', { current: 'one' });
  keyring.update(0, nothing);
  const id = keyring.send?.id ?? 0;
  keyring.update(1, { ...nothing, sent: new Map([[id, 2 ** 40]]) });
  t.equal(keyring.epoch, 1);
});

t.test('a session that is retired leaves no key behind', async (t) => {
  const keyring = end('a', { current: 'one' });
  keyring.update(0, nothing);
  const { send, receive } = keyring;
  t.ok(keyring.retire('one'));
  t.notOk(keyring.retire('one'));
  t.equal(keyring.send, undefined);
  t.strictSame(keyring.receive, []);
  t.ok(keyring.empty);
  t.ok([send?.key, ...receive.map((key) => key.aes)].every((key) => key?.every((byte) => byte === 0)));
});

t.test(
  'while nothing is due and nothing has come a look answers that nothing changed, and the change is not late',
  async (t) => {
    fc.assert(
      fc.property(
        fc.array(
          fc.record({
            wait: fc.integer({ min: 0, max: 2 * REKEY }),
            current: fc.constantFrom('one', 'one', 'one', 'two', undefined),
            carried: fc.boolean(),
          }),
          { maxLength: 40 },
        ),
        (steps) => {
          const state = { current: 'one' as string | undefined };
          const resting = end('a', state);
          const looking = end('a', state);
          let now = 0.1;
          let seen: { sent: Map<number, number>; received: Map<number, number> } = nothing;
          for (const step of steps) {
            now += step.wait;
            state.current = step.current;
            if (step.carried)
              seen = { sent: new Map(), received: new Map(resting.receive.map(({ id }) => [id, 1])) };
            // A new object each time: nothing is taken for unchanged.
            const found = [resting.update(now, seen), looking.update(now, { ...seen })];
            if (
              JSON.stringify([found[0], resting.receive, resting.send]) !==
              JSON.stringify([found[1], looking.receive, looking.send])
            )
              return false;
          }
          return true;
        },
      ),
    );
    t.pass();
  },
);
