/**
 * Hostile traffic against a real agent over sockets: what was recorded on the path, replayed, forged, cut and blown up, and many
 * connections that drip. Nothing of it has an effect, memory stays bounded, and everybody else is served.
 */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { request } from 'undici';
import { createCluster, eventually, type Member } from './cluster.ts';

const ATTACKER = fileURLToPath(new URL('./attacker.mjs', import.meta.url));
const LONG = process.env['ARCTIC_LONG'] === '1';
const MIB = 1_048_576;

interface Message {
  readonly path: string;
  readonly body: Buffer;
}

/** The HTTP requests in what a relay kept. */
function messagesIn(file: string): Message[] {
  const streams = new Map<number, Buffer[]>();
  for (const line of readFileSync(file, 'utf8').trim().split('\n')) {
    const { connection, bytes } = JSON.parse(line) as { connection: number; bytes: string };
    streams.set(connection, [...(streams.get(connection) ?? []), Buffer.from(bytes, 'base64')]);
  }
  const found: Message[] = [];
  for (const pieces of streams.values()) {
    let rest = Buffer.concat(pieces);
    for (;;) {
      const end = rest.indexOf('\r\n\r\n');
      if (end < 0) break;
      const head = rest.subarray(0, end).toString('latin1');
      const length = Number(/content-length: (\d+)/i.exec(head)?.[1] ?? 0);
      found.push({ path: head.split(' ')[1] ?? '', body: rest.subarray(end + 4, end + 4 + length) });
      rest = rest.subarray(end + 4 + length);
    }
  }
  return found;
}

const memoryOf = (pid: number): number =>
  Number(/^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]) * 1_024;

t.test('hostile traffic has no effect', { timeout: 240_000 }, async (t) => {
  const cluster = await createCluster({ join: false, env: { HEARTBEAT_SECONDS: '1' } });
  t.teardown(() => cluster.lab.destroy());
  const { lab } = cluster;
  const [entry, exit] = [cluster.member(0), cluster.member(1)];
  const recording = join(lab.directory, 'recording.jsonl');
  const relay = lab.spawn('server', [
    process.execPath,
    ATTACKER,
    'relay',
    '9000',
    lab.host('entry').address.ipv4,
    '8080',
    recording,
  ]);
  await eventually('the relay listens', async () => relay.output().includes('listening'));
  const call = (of: Member, method: string, path: string, body?: unknown) =>
    of.agent.request(method, path, { token: of.token, ...(body === undefined ? {} : { body }) });
  const joined = await call(exit, 'POST', '/v1/peers', {
    address: `${lab.host('server').address.ipv4}:9000`,
  });
  t.equal(joined.status, 201, joined.text);
  const write = async (name: string) =>
    (await call(exit, 'POST', '/v1/services', { name, target_peer_id: entry.identity.peer_id })).status;
  const arrived = (name: string) =>
    eventually(`${name} arrives`, async () => (await call(entry, 'GET', '/v1/services')).text.includes(name));
  for (const name of ['one', 'two', 'three']) t.equal(await write(name), 201);
  await arrived('three');
  await eventually('the path was listened to', async () => existsSync(recording));
  const messages = messagesIn(recording);
  const gossip = messages.filter(({ path, body }) => path === '/v1/peer/gossip' && body.length > 60);
  const [hello, confirm] = messages.filter(({ path }) => path === '/v1/peer/handshake');
  t.ok(
    gossip.length >= 3 && hello !== undefined && confirm !== undefined,
    `${messages.length} were recorded`,
  );
  if (hello === undefined || confirm === undefined) return;

  const outside = await lab.http('client', '10.91.1.1', 8080);
  const send = async (path: string, body: Buffer, type = 'application/octet-stream') => {
    const answer = await request(new URL(path, 'http://10.91.1.1:8080'), {
      dispatcher: outside.dispatcher,
      method: 'POST',
      headers: { 'content-type': type },
      body,
    });
    return { status: answer.statusCode, text: await answer.body.text() };
  };
  const stateOf = async (of: Member) => {
    const { log_head, projection_digest, peers } = (await call(of, 'GET', '/v1/cluster/status')).json<{
      log_head: number;
      projection_digest: string;
      peers: { state: string; reason: string | null }[];
    }>();
    return { log_head, projection_digest, peers: peers.map(({ state, reason }) => ({ state, reason })) };
  };
  const before = [await stateOf(entry), await stateOf(exit)];
  const memory = memoryOf(entry.agent.process.pid);

  await t.test('replayed, forged, truncated', async (t) => {
    for (const { path, body } of gossip.slice(0, LONG ? 200 : 20)) {
      t.equal((await send(path, body)).status, 403, 'replayed');
      for (const at of [30, 40, 60, body.length - 1]) {
        const forged = Buffer.from(body);
        forged[at] = (forged[at] ?? 0) ^ 1;
        t.equal((await send(path, forged)).status, 403, `forged at ${at}`);
      }
      const elsewhere = Buffer.from(body);
      elsewhere[8] = (elsewhere[8] ?? 0) ^ 1;
      t.equal((await send(path, elsewhere)).status, 401, 'of no session');
      for (const length of [0, 3, 52, 53, body.length - 1])
        t.equal((await send(path, body.subarray(0, length))).status, 403, `cut to ${length}`);
      t.equal((await send('/v1/peer/handshake', body)).status, 400, 'to another path');
    }
    t.equal((await send(hello.path, hello.body, 'application/json')).status, 200, 'an answer for nobody');
    t.equal((await send(confirm.path, confirm.body, 'application/json')).status, 503);
    t.equal((await send(hello.path, hello.body.subarray(0, 500), 'application/json')).status, 400);
    const liar = hello.body.toString().replace(/"challenge":"...../, '"challenge":"AAAAA');
    t.equal((await send(hello.path, Buffer.from(liar), 'application/json')).status, 200, 'as useless');
  });

  await t.test('oversized', async (t) => {
    const genuine = gossip[0]?.body ?? Buffer.alloc(0);
    const fill = (mebibytes: number) => Buffer.concat([genuine, Buffer.alloc(mebibytes * MIB)]);
    t.equal((await send('/v1/peer/gossip', fill(5))).status, 413);
    t.equal((await send('/v1/peer/gossip', Buffer.alloc(50 * MIB))).status, 403, 'not even held');
    t.equal((await send('/v1/peer/handshake', fill(5), 'application/json')).status, 400);
    // Other requests are answered before the body has come; a sender that goes on may find the connection closed.
    const refused = async (path: string, type: string, expected: RegExp): Promise<void> => {
      const outcome = await send(path, Buffer.alloc(5 * MIB, 0x20), type).then(
        ({ status, text }) => `${status} ${text}`,
        (error: unknown) => `closed: ${error instanceof Error ? error.message : error}`,
      );
      t.match(outcome, expected, path);
    };
    await refused('/v1/bootstrap', 'application/json', /ALREADY_BOOTSTRAPPED|^closed/);
    await refused('/v1/oauth/token', 'application/x-www-form-urlencoded', /^413|^closed/);
    await refused('/v1/services', 'application/json', /^401|^closed/);
  });
  t.same([await stateOf(entry), await stateOf(exit)], before, 'nobody noticed');

  await t.test('dripped', async (t) => {
    const count = 700;
    const drip = lab.spawn('client', [
      process.execPath,
      ATTACKER,
      'drip',
      '10.91.1.1',
      '8080',
      String(count),
      '60',
    ]);
    const last = () => {
      const line = drip.output().trim().split('\n').at(-1) ?? '';
      return line.startsWith('{')
        ? (JSON.parse(line) as { opened: number; closed: number; open: number; end?: boolean })
        : undefined;
    };
    // One or two of what this network may have are the connections of the requests before.
    await eventually('the connections stand, as many as one network may have', async () => {
      const now = last();
      return now !== undefined && now.opened === count && now.open >= 500 && now.open <= 512;
    });
    t.equal(await write('under-fire'), 201);
    await arrived('under-fire');
    for (const { agent } of cluster.members) t.equal((await agent.request('GET', '/livez')).status, 200);
    t.match(entry.agent.process.output(), /level=warn .*too many connections from one network/);
    if (!LONG) drip.kill();
    await drip.ended;
    if (LONG) t.equal(last()?.open, 0, 'whoever drips is cut off');
    const names = (await stateOf(entry)).peers;
    t.ok(
      names.every(({ state }) => state === 'active'),
      'and nobody was given up',
    );
  });
  const grown = memoryOf(entry.agent.process.pid) - memory;
  t.ok(grown < 200 * MIB, `the agent grew by ${(grown / MIB).toFixed(0)} MiB`);
  t.equal(await write('afterwards'), 201);
  await arrived('afterwards');
});
