import t, { type Test } from 'tap';
import type { CustomerId, LicenseId } from '../../../events/brand.ts';
import { ArcticError } from '../../../events/errors.ts';
import { HANDSHAKE_PATH } from '../../../src/gossip/messages.ts';
import { FORGED_SIGNATURE, type Node, testLicense, World } from '../../simulation/world.ts';

/** Two bootstrapped hosts of one customer that do not know each other. */
function strangers(seed = 1, licenses: Parameters<typeof testLicense>[] = [[], []]) {
  const world = new World(seed);
  const [a, b] = licenses.map(([fields]) => world.add({ license: testLicense(fields) }));
  if (a === undefined || b === undefined) throw new Error('two hosts are needed');
  for (const node of [a, b]) {
    node.bootstrap();
    node.start();
  }
  return { world, a, b };
}

const refusal = (t: Test, result: unknown, code: string, text: string) => {
  t.ok(result instanceof ArcticError, `refused: ${text}`);
  if (!(result instanceof ArcticError)) return;
  t.equal(result.message, text);
  t.equal(result.code, code);
};
const configOf = (node: Node) => JSON.stringify(node.config());

t.test('a join: both admit each other, and the logs agree before it returns', async (t) => {
  const { world, a, b } = strangers();
  const peer = world.tryJoin(a, b.address);
  t.equal(peer, b.peerId);
  t.ok(world.converged());
  t.equal(a.views.cluster().cluster_id, b.views.cluster().cluster_id);
  t.match(a.views.cluster().cluster_id, /1$/, 'the older cluster id wins');
  for (const [x, y] of [
    [a, b],
    [b, a],
  ] as const) {
    t.equal(x.running.observed(y.peerId).state, 'active');
    t.equal(x.running.observed(y.peerId).lag, 0);
    t.match(x.running.observed(y.peerId).projection_digest, /^[0-9a-f]{64}$/);
    t.equal(x.local('handshake.succeeded').length, 1);
    t.equal(x.views.peers.get(y.peerId)?.membership, 'member');
    t.equal(x.views.peers.get(y.peerId)?.address, y.address);
  }
});

t.test('both sides hold the same keys, each with its own directions', async (t) => {
  const { world, a, b } = strangers();
  world.join(a, b);
  const mine = a.running.sessions.current(b.peerId);
  const theirs = b.running.sessions.current(a.peerId);
  t.equal(mine?.sessionId, theirs?.sessionId);
  t.same(mine?.key, theirs?.key);
  t.equal(mine?.initiator, true);
  t.equal(theirs?.initiator, false);
  t.same(a.running.sessions.tunnel(b.peerId, 3)?.send, b.running.sessions.tunnel(a.peerId, 3)?.receive);
  t.same(a.running.sessions.tunnel(b.peerId, 3)?.receive, b.running.sessions.tunnel(a.peerId, 3)?.send);
  t.notSame(a.running.sessions.tunnel(b.peerId, 3)?.send, a.running.sessions.tunnel(b.peerId, 4)?.send);
});

t.test('connection refused, after three tries', async (t) => {
  const { world, a, b } = strangers();
  b.kill();
  const before = world.requests;
  refusal(t, world.tryJoin(a, b.address), 'HANDSHAKE_FAILED', 'handshake failed: connection refused');
  t.equal(world.requests - before, 3);
  t.match(a.local('handshake.failed'), [
    { data: { peer_id: null, address: b.address, reason: 'handshake failed: connection refused' } },
  ]);
});

t.test('connection timeout, after three tries', async (t) => {
  const { world, a, b } = strangers();
  world.groups = (node) => node.index;
  const before = world.requests;
  refusal(t, world.tryJoin(a, b.address), 'HANDSHAKE_FAILED', 'handshake failed: connection timeout');
  t.equal(world.requests - before, 3);
});

t.test('license mismatch: another customer, or a license nobody signed', async (t) => {
  for (const fields of [
    { customer_id: 'cust_other' as CustomerId, license_id: 'lic_other' as LicenseId },
    { signature: FORGED_SIGNATURE },
  ]) {
    for (const order of [
      [[], [fields]],
      [[fields], []],
    ] satisfies Parameters<typeof testLicense>[][]) {
      const { world, a, b } = strangers(1, order);
      const honest = order[0]?.length === 0 ? a : b;
      const before = configOf(honest);
      const requests = world.requests;
      refusal(t, world.tryJoin(a, b.address), 'LICENSE_MISMATCH', 'handshake failed: license mismatch');
      t.ok(world.requests - requests <= 2, 'final: no second try');
      t.equal(configOf(honest), before, 'the other cluster admitted nobody');
    }
  }
});

t.test('node limit exceeded counts the union of both clusters', async (t) => {
  const world = new World(4);
  const small = { license: testLicense({ max_nodes: 3 }) };
  const nodes = Array.from({ length: 4 }, () => world.add(small));
  for (const node of nodes) {
    node.bootstrap();
    node.start();
  }
  const [a, b, c, d] = nodes;
  if (!a || !b || !c || !d) throw new Error('four hosts are needed');
  world.join(a, b);
  world.join(c, d);
  const before = nodes.map(configOf);
  refusal(t, world.tryJoin(a, c.address), 'NODE_LIMIT_EXCEEDED', 'handshake failed: node limit exceeded');
  t.same(nodes.map(configOf), before, 'nothing was admitted anywhere');
});

t.test('nobody is admitted with a clock that is ahead of the others', async (t) => {
  const world = new World(5);
  const [a, b, c] = Array.from({ length: 3 }, () => world.add());
  if (!a || !b || !c) throw new Error('three hosts are needed');
  for (const node of [a, b, c]) {
    node.bootstrap();
    node.start();
  }
  world.join(a, b);
  b.skew = 600_000;
  world.time.advance(10_000);
  const before = [a, b, c].map(configOf);
  refusal(
    t,
    world.tryJoin(c, b.address),
    'UNAVAILABLE',
    "handshake failed: the clock of the remote agent is ahead of its peers'; set it, and add the peer again",
  );
  const refused = world.tryJoin(b, c.address);
  t.match(refused, { code: 'UNAVAILABLE', message: /its clock is 600 s ahead of that of / });
  t.same([a, b, c].map(configOf), before, 'nothing was admitted anywhere');
  b.skew = 0;
  world.time.advance(5_000);
  world.join(c, b);
  t.ok(
    world.until(() => world.converged(), 60_000),
    'and with a right one it goes on',
  );
});

t.test('peer already exists in cluster', async (t) => {
  const { world, a, b } = strangers();
  world.join(a, b);
  refusal(t, world.tryJoin(a, b.address), 'ALREADY_EXISTS', 'peer already exists in cluster');
  refusal(t, world.tryJoin(b, a.address), 'ALREADY_EXISTS', 'peer already exists in cluster');
});

t.test('an address that leads back, and an agent that is not bootstrapped', async (t) => {
  const { world, a } = strangers();
  refusal(
    t,
    world.tryJoin(a, a.address),
    'HANDSHAKE_FAILED',
    'handshake failed: the address leads back to this agent',
  );
  const bare = world.add();
  bare.start();
  const result = world.tryJoin(a, bare.address);
  t.match(result, {
    code: 'HANDSHAKE_FAILED',
    message: /^handshake failed: the remote agent is not bootstrapped/,
  });
  t.match(world.tryJoin(bare, a.address), { code: 'NOT_BOOTSTRAPPED' });
});

t.test('a removed peer cannot come back by itself, only by an operator of a member', async (t) => {
  const { world, a, b } = strangers();
  world.join(a, b);
  const retired: string[] = [];
  a.running.sessions.onRetired((_id, reason) => retired.push(reason));
  a.append({
    type: 'peer.removed',
    entity: b.peerId,
    data: { peer_id: b.peerId, last_seq: b.log.versionVector()[b.peerId] ?? 0 },
  });
  world.time.advance(1_000);
  t.same(retired, ['removed'], 'its session died within a second');
  t.equal(a.running.sessions.current(b.peerId), undefined);
  t.equal(b.views.peers.get(b.peerId)?.membership, 'removed', 'it was told');
  b.write('after-removal');
  world.time.advance(60_000);
  t.notMatch(configOf(a), /after-removal/);
  t.match(world.tryJoin(b, a.address), { message: /^handshake failed: the peer was removed/ });
  t.equal(a.views.peers.get(b.peerId)?.membership, 'removed');

  t.equal(world.tryJoin(a, b.address), b.peerId, 'an operator of a member takes it in again');
  t.ok(world.until(() => world.converged(), 10_000));
  t.equal(b.views.peers.get(b.peerId)?.membership, 'member');
  world.time.advance(60_000);
  t.equal(a.running.observed(b.peerId).state, 'active');
  t.equal(b.running.observed(a.peerId).state, 'active');
});

t.test('a peer that left comes back when it is added again', async (t) => {
  const { world, a, b } = strangers();
  world.join(a, b);
  b.append({ type: 'peer.left', entity: b.peerId, data: { peer_id: b.peerId } });
  world.time.advance(5_000);
  t.equal(a.views.peers.get(b.peerId)?.membership, 'left');
  t.equal(a.running.sessions.current(b.peerId), undefined);
  t.equal(world.tryJoin(a, b.address), b.peerId);
  t.ok(world.until(() => world.converged(), 10_000));
  t.equal(a.running.observed(b.peerId).state, 'active');
});

t.test("another agent at a member's address is an invalid signature", async (t) => {
  const { world, a, b } = strangers();
  world.join(a, b);
  const impostor = world.add();
  impostor.bootstrap();
  impostor.start();
  b.kill();
  a.kill();
  Object.defineProperty(impostor, 'address', { value: b.address });
  Object.defineProperty(b, 'address', { value: '10.9.9.9:8080' });
  a.start();
  world.time.advance(20_000);
  t.match(a.running.observed(b.peerId), {
    state: 'unreachable',
    reason: 'handshake failed: invalid signature',
  });
  t.equal(a.running.sessions.current(impostor.peerId), undefined);
});

t.test('a license that gossip replaces between the two halves of a handshake costs one try', async (t) => {
  for (const side of ['initiator', 'responder'] as const) {
    const { world, a, b } = strangers();
    const newer = testLicense({
      license_id: 'lic_newer' as LicenseId,
      issued_at: '2025-06-01T00:00:00.000Z',
    });
    let replaced = false;
    world.tap = (options, from) => {
      const message = Buffer.from(options.body).toString();
      const half = side === 'initiator' ? '"hello"' : '"confirm"';
      if (!replaced && from === a && options.path === HANDSHAKE_PATH && message.includes(half)) {
        replaced = true;
        (side === 'initiator' ? a : b).append({
          type: 'license.installed',
          entity: newer.license_id,
          data: { license: { ...newer, features: [] } },
        });
      }
      return options.body;
    };
    t.equal(world.tryJoin(a, b.address), b.peerId, `of the ${side}`);
    t.ok(replaced);
  }
});

/** Every message of a join, changed on the wire one way after the other. */
t.test('tampered handshake messages are refused without a trace in the log', async (t) => {
  const changes: [string, (text: string) => string][] = [
    ['peer id', (text) => text.replace(/peer_01JD\d+(\d)/, 'peer_01JD0000000000000000000009')],
    ['challenge', (text) => text.replace(/"challenge":"..../, '"challenge":"AAAA')],
    ['ephemeral', (text) => text.replace(/"ephemeral":"....../, '"ephemeral":"AAAAAA')],
    ['name', (text) => text.replace(/"name":"host/, '"name":"tsoh')],
    ['address', (text) => text.replace(/"address":"10\.0\.0\./, '"address":"10.0.1.')],
    ['intent', (text) => text.replace('"intent":"join"', '"intent":"member"')],
    ['session', (text) => text.replace(/"session":"..../, '"session":"0000')],
    [
      'sealed',
      (text) =>
        text.replace(
          /("sealed":".{120})(.)/,
          (_, head: string, c: string) => `${head}${c === 'A' ? 'B' : 'A'}`,
        ),
    ],
    ['truncated', (text) => text.slice(0, -20)],
    ['empty', () => ''],
    ['not JSON', () => '\u0000\u0001'],
    ['array', () => '[]'],
  ];
  for (const [what, change] of changes) {
    const { world, a, b } = strangers();
    const before = configOf(b);
    let touched = 0;
    world.tap = (options, from) => {
      if (from !== a || options.path !== HANDSHAKE_PATH) return options.body;
      const text = Buffer.from(options.body).toString();
      const changed = change(text);
      if (changed !== text) touched += 1;
      return Buffer.from(changed);
    };
    const result = world.tryJoin(a, b.address);
    t.ok(touched > 0, `${what}: a message was changed`);
    t.match(result, { code: /^(HANDSHAKE_FAILED|RATE_LIMITED)$/, message: /^handshake failed: / }, what);
    t.equal(configOf(b), before, `${what}: nothing was appended there`);
    t.equal(b.running.sessions.size, 0, `${what}: no session`);
  }
});

t.test('replayed handshake messages gain nothing', async (t) => {
  const { world, a, b } = strangers();
  const recorded: Uint8Array[] = [];
  world.tap = (options, from) => {
    if (from === a && options.path === HANDSHAKE_PATH) recorded.push(options.body);
    return options.body;
  };
  world.join(a, b);
  t.equal(recorded.length, 2);
  const before = configOf(b);
  const sessions = b.running.sessions.size;
  const send = (body: Uint8Array) =>
    b.running.handle({ method: 'POST', path: HANDSHAKE_PATH, headers: {}, body, remoteAddress: '10.6.6.6' });
  const [hello, confirm] = recorded;
  if (!hello || !confirm) throw new Error('two messages were recorded');
  t.equal(send(hello).status, 200, 'an answer that only the owner of the ephemeral key can use');
  t.match(send(confirm), { status: 503 });
  t.match(Buffer.from(send(confirm).body).toString(), /answered before/);
  t.equal(configOf(b), before);
  t.equal(b.running.sessions.size, sessions);
});

t.test('a flood of hellos is bounded', async (t) => {
  const { world, a, b } = strangers();
  let hello: Uint8Array | undefined;
  world.tap = (options, from) => {
    if (from === a && options.path === HANDSHAKE_PATH) hello ??= options.body;
    return options.body;
  };
  world.join(a, b);
  const body = hello ?? new Uint8Array();
  const statuses = Array.from(
    { length: 40 },
    () =>
      b.running.handle({ method: 'POST', path: HANDSHAKE_PATH, headers: {}, body, remoteAddress: '10.6.6.6' })
        .status,
  );
  t.equal(statuses.filter((status) => status === 200).length, 16);
  t.equal(statuses.at(-1), 429);
  world.time.advance(20_000);
  t.equal(
    b.running.handle({ method: 'POST', path: HANDSHAKE_PATH, headers: {}, body, remoteAddress: '10.6.6.6' })
      .status,
    200,
  );
});

t.test('unknown resources, methods and sizes get their status', async (t) => {
  const { b } = strangers();
  const ask = (method: string, path: string, body = new Uint8Array()) =>
    b.running.handle({ method, path, headers: {}, body, remoteAddress: '10.6.6.6' }).status;
  t.equal(ask('POST', '/v1/peer/nothing'), 404);
  t.equal(ask('GET', HANDSHAKE_PATH), 404);
  t.equal(ask('POST', HANDSHAKE_PATH), 400);
  t.equal(ask('POST', '/v1/peer/gossip'), 403);
  t.equal(ask('POST', '/v1/peer/gossip', new Uint8Array(5 * 1024 * 1024)), 413);
  b.running.stop();
  t.equal(ask('POST', HANDSHAKE_PATH), 503);
});
