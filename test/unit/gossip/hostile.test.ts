import fc from 'fast-check';
import t from 'tap';
import { GOSSIP_PATH, HANDSHAKE_PATH } from '../../../src/gossip/messages.ts';
import { World } from '../../simulation/world.ts';

/** `ARCTIC_LONG=1`: the full number of cases. */
const numRuns = process.env['ARCTIC_LONG'] === '1' ? 100_000 : 2_000;

const world = new World(1);
const [a, b] = world.cluster(2);
if (!a || !b) throw new Error('two hosts are needed');
const recorded: { readonly path: string; readonly body: Uint8Array }[] = [];
world.tap = (options, from) => {
  if (from === a) recorded.push({ path: options.path, body: options.body });
  return options.body;
};
world.join(
  a,
  (() => {
    const c = world.add();
    c.bootstrap();
    c.start();
    return c;
  })(),
);
a.write('recorded');
world.time.advance(5_000);
world.tap = undefined;

const send = (path: string, body: Uint8Array) =>
  b.running.handle({ method: 'POST', path, headers: {}, body, remoteAddress: '10.6.6.6' });
const state = () => `${b.log.head} ${b.running.sessions.size} ${b.running.observed(a.peerId).state}`;
const before = state();

t.test('arbitrary bytes get a status and change nothing', async (t) => {
  fc.assert(
    fc.property(
      fc.constantFrom(HANDSHAKE_PATH, GOSSIP_PATH),
      fc.uint8Array({ maxLength: 500 }),
      (path, body) => {
        const { status } = send(path, body);
        return status >= 400 && status < 500;
      },
    ),
    { numRuns },
  );
  t.equal(state(), before);
});

t.test('arbitrary JSON gets a status and changes nothing', async (t) => {
  fc.assert(
    fc.property(
      fc.jsonValue({ maxDepth: 3 }),
      fc.constantFrom('hello', 'confirm', 'answer'),
      (value, kind) => {
        const body =
          typeof value === 'object' && value !== null && !Array.isArray(value) ? { ...value, kind } : value;
        return send(HANDSHAKE_PATH, Buffer.from(JSON.stringify(body))).status === 400;
      },
    ),
    { numRuns },
  );
  t.equal(state(), before);
});

t.test('recorded messages, spliced and mutated, change nothing', async (t) => {
  t.ok(recorded.length > 5);
  const mutation = fc.record({
    at: fc.nat(),
    length: fc.nat(20),
    bytes: fc.uint8Array({ maxLength: 20 }),
    message: fc.nat(recorded.length - 1),
    path: fc.constantFrom(HANDSHAKE_PATH, GOSSIP_PATH),
  });
  fc.assert(
    fc.property(mutation, ({ at, length, bytes, message, path }) => {
      const body = recorded[message]?.body ?? new Uint8Array();
      const from = at % (body.length + 1);
      const changed = Buffer.concat([body.subarray(0, from), bytes, body.subarray(from + length)]);
      // A hello is not secret: an unchanged or harmlessly changed one earns an answer nobody can use.
      return send(path, changed).status >= 200;
    }),
    { numRuns },
  );
  t.equal(state(), before);
});
