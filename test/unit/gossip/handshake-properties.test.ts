/** Whatever somebody on the path makes of the four messages of a handshake: it fails, or both ends believe what the other said. */
import { isDeepStrictEqual } from 'node:util';
import fc from 'fast-check';
import t from 'tap';
import type { MachineDeps, PostOutcome } from '../../../src/gossip/machine/core.ts';
import {
  type Agreement,
  answerHello,
  type InitiateResult,
  initiate,
  localCredentials,
  localParty,
  type PendingHandshake,
  sealCredentials,
  verifyConfirm,
} from '../../../src/gossip/machine/handshake.ts';
import { parseJson, readConfirm, readHello } from '../../../src/gossip/messages.ts';
import { verifyRaw } from '../../../src/identity/handshake-keys.ts';
import { FORGED_SIGNATURE, type Node, World } from '../../simulation/world.ts';

/** `ARCTIC_LONG=1`: the full number of cases. */
const numRuns = process.env['ARCTIC_LONG'] === '1' ? 100_000 : 1_000;
t.setTimeout(3_600_000);

const world = new World(5);
const [left, right] = [world.add(), world.add()];
for (const node of [left, right]) node.bootstrap();

const depsOf = (node: Node, transport: MachineDeps['transport']): MachineDeps => ({
  clock: world.time.clock(() => 0),
  random: world.random,
  identity: {
    peerId: node.peerId,
    publicKey: node.signer.publicKey,
    sign: (message) => node.signer.sign(message),
  },
  verify: verifyRaw,
  log: node.log,
  views: node.views,
  transport,
  profile: () => ({
    name: `host-${node.index}`,
    address: node.address,
    endpoints: [`http://${node.address}`],
    version: 'v1.4.0',
  }),
  verifyLicense: (license) => license.signature !== FORGED_SIGNATURE,
  admit: () => [],
  projectionDigest: () => null,
  report: () => {},
});
const nowhere: MachineDeps['transport'] = { post: () => {} };

const MESSAGES = ['hello', 'answer', 'confirm', 'accepted'] as const;
type Name = (typeof MESSAGES)[number];

/** One whole handshake; `change` sees each message on the wire. */
function handshake(change: (name: Name, body: Buffer) => Buffer): {
  readonly initiator: InitiateResult | undefined;
  readonly responder: Agreement | undefined;
} {
  const there = depsOf(right, nowhere);
  const queue: (() => void)[] = [];
  let pending: PendingHandshake | undefined;
  let responder: Agreement | undefined;
  const respond = (value: unknown): { readonly status: number; readonly body: Buffer } => {
    const hello = readHello(value);
    if (hello !== undefined) {
      const result = answerHello(hello, '10.0.0.9', there);
      if ('failure' in result) return { status: 422, body: Buffer.from('{}') };
      pending = result.pending;
      return { status: 200, body: change('answer', Buffer.from(JSON.stringify(result.answer))) };
    }
    const confirm = readConfirm(value);
    if (confirm === undefined || pending?.keys.sessionId !== confirm.session)
      return { status: 400, body: Buffer.from('{}') };
    const result = verifyConfirm(confirm, pending, there);
    const own = localCredentials(there, pending.party.peer_id);
    if ('failure' in result || own === undefined) return { status: 422, body: Buffer.from('{}') };
    responder = result.agreement;
    const { keys } = result.agreement;
    const sealed = sealCredentials(keys, 'responder', there.clock.now(), own);
    const accepted = { kind: 'accepted', session: keys.sessionId, sealed };
    return { status: 200, body: change('accepted', Buffer.from(JSON.stringify(accepted))) };
  };
  const transport: MachineDeps['transport'] = {
    post(options, done) {
      queue.push(() => {
        const name = Buffer.from(options.body).includes('"hello"') ? 'hello' : 'confirm';
        const { status, body } = respond(parseJson(change(name, Buffer.from(options.body))));
        done({ kind: 'answer', status, body, endpoint: 'http://x' } satisfies PostOutcome);
      });
    },
  };
  let initiator: InitiateResult | undefined;
  initiate(
    { endpoints: ['http://x'], intent: 'join', expected: undefined, timeoutMs: 1_000 },
    depsOf(left, transport),
    (result) => {
      initiator = result;
    },
  );
  for (let next = queue.shift(); next !== undefined; next = queue.shift()) next();
  return { initiator, responder };
}

const recorded = new Map<Name, Buffer>();
const genuine = handshake((name, body) => {
  recorded.set(name, body);
  return body;
});

type Change = (body: Buffer) => Buffer;
/** Bytes in the place of others. */
const splice: fc.Arbitrary<Change> = fc
  .record({ at: fc.nat(), length: fc.nat(12), bytes: fc.uint8Array({ maxLength: 12 }) })
  .map(({ at, length, bytes }) => (body) => {
    const from = at % (body.length + 1);
    return Buffer.concat([body.subarray(0, from), bytes, body.subarray(from + length)]);
  });
/** Another value in the place of a field, at any depth. */
const replace: fc.Arbitrary<Change> = fc
  .record({
    at: fc.nat(),
    value: fc.oneof(
      fc.jsonValue({ maxDepth: 1 }),
      fc.constantFrom('join', 'member', right.peerId, left.peerId, 'cust_other', [1, 2], [2], 2),
    ),
  })
  .map(({ at, value }) => (body) => {
    const message: unknown = JSON.parse(body.toString());
    const places: [object, string][] = [];
    const visit = (one: unknown): void => {
      if (typeof one !== 'object' || one === null) return;
      for (const key of Object.keys(one)) {
        places.push([one, key]);
        visit(Reflect.get(one, key));
      }
    };
    visit(message);
    const [holder, key] = places[at % places.length] ?? [];
    if (holder !== undefined && key !== undefined) Reflect.set(holder, key, value);
    return Buffer.from(JSON.stringify(message));
  });
/** A message of an earlier handshake, whole or the same field of it. */
const replay: fc.Arbitrary<Change> = fc.nat().map((at) => (body) => {
  const message = JSON.parse(body.toString()) as Record<string, unknown>;
  const earlier = JSON.parse((recorded.get(message['kind'] as Name) ?? body).toString()) as Record<
    string,
    unknown
  >;
  const keys = Object.keys(message);
  const key = keys[at % (keys.length + 1)];
  if (key === undefined) return Buffer.from(JSON.stringify(earlier));
  return Buffer.from(JSON.stringify({ ...message, [key]: earlier[key] }));
});

t.test('an untouched handshake comes about', async (t) => {
  t.ok(genuine.initiator?.ok);
  t.ok(genuine.responder);
  t.same([...recorded.keys()], MESSAGES);
});

t.test('a touched one fails, or both believe what the other said', async (t) => {
  const parties = [left, right].map((node) => localParty(depsOf(node, nowhere)));
  const licenses = [left, right].map((node) => node.license);
  let failed = 0;
  fc.assert(
    fc.property(fc.constantFrom(...MESSAGES), fc.oneof(splice, replace, replay), (which, change) => {
      const { initiator, responder } = handshake((name, body) => (name === which ? change(body) : body));
      if (initiator?.ok !== true) failed += 1;
      const sound = (agreement: Agreement, other: 0 | 1): boolean =>
        isDeepStrictEqual({ ...agreement.party }, { ...parties[other] }) &&
        isDeepStrictEqual(agreement.credentials.license, { ...licenses[other] });
      if (responder !== undefined && !sound(responder, 0)) return false;
      if (initiator === undefined) return false;
      if (!initiator.ok) return initiator.failure.text.startsWith('handshake failed: ');
      return (
        sound(initiator.agreement, 1) && initiator.agreement.keys.sessionId === responder?.keys.sessionId
      );
    }),
    { numRuns },
  );
  t.ok(failed > numRuns / 2, `${failed} of ${numRuns} failed`);
});
