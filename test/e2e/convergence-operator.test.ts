/**
 * What an operator meets in a cluster of real agents: the words of a handshake that fails, two clusters that become one, requests
 * for another member, an internal peer, the recovery token, and the lock of the cluster.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { createMovableClock, type MovableClock } from '../../ops/lab/movable-clock.ts';
import { bootstrap, createCluster, eventually, type Member } from './cluster.ts';

/** `ARCTIC_LONG=1`: also what takes half a minute to be noticed. */
const LONG = process.env['ARCTIC_LONG'] === '1';
const HOSTS = ['north', 'south', 'west', 'east'];

interface PeerRow {
  readonly id: string;
  readonly name: string;
  readonly state: string;
}

t.test('a cluster as an operator uses it', { timeout: 280_000 }, async (t) => {
  const clocks = new Map<string, MovableClock>();
  const env = { HEARTBEAT_SECONDS: '1' };
  const cluster = await createCluster({
    agents: [...HOSTS, 'alien'],
    join: false,
    env,
    license: { maxNodes: 5 },
    async envOf(host) {
      const clock = await createMovableClock(host.directory);
      clocks.set(host.name, clock);
      return clock.env;
    },
  });
  t.teardown(() => cluster.lab.destroy());
  const { lab } = cluster;
  const [north, south, west, east] = HOSTS.map((_, index) => cluster.member(index)) as [
    Member,
    Member,
    Member,
    Member,
  ];
  const all = [north, south, west, east];
  const call = (
    by: Member,
    method: string,
    path: string,
    options: { readonly body?: unknown; readonly headers?: Readonly<Record<string, string>> } = {},
  ) => by.agent.request(method, path, { token: by.token, ...options });
  const cli = (on: Member, ...argv: string[]) =>
    lab.cli(on.agent.host.name, [...argv, '--url', on.agent.url, '--token', on.token], {
      check: false,
      timeout: 90_000,
    });
  const add = async (by: Member, of: Member) => {
    const answer = await call(by, 'POST', '/v1/peers', { body: { address: of.agent.address } });
    t.equal(answer.status, 201, answer.text);
  };
  const fullMesh = () =>
    eventually(
      'everybody active everywhere',
      async () => {
        for (const member of all) {
          const { peers } = (await call(member, 'GET', '/v1/peers')).json<{ peers: PeerRow[] }>();
          if (peers.length !== all.length || peers.some(({ state }) => state !== 'active')) return false;
        }
        return true;
      },
      40_000,
    );

  await t.test('two clusters of one customer become one, under the older id', async (t) => {
    await add(north, south);
    await add(west, east);
    await call(west, 'POST', '/v1/services', {
      body: { name: 'from-the-west', target_peer_id: east.identity.peer_id },
    });
    await add(east, south);
    await fullMesh();
    for (const member of all) {
      const { cluster_id } = (await call(member, 'GET', '/v1/cluster/identity')).json<{
        cluster_id: string;
      }>();
      t.equal(cluster_id, north.identity.cluster_id);
      t.match((await call(member, 'GET', '/v1/services')).text, /from-the-west/);
    }
    const joined = await call(north, 'GET', '/v1/peers', {
      headers: { authorization: `Bearer ${west.token}` },
    });
    t.equal(joined.status, 200, 'the tokens of both count');
  });

  await t.test('a handshake that fails says why, in the words of the troubleshooting page', async (t) => {
    const refused = await cli(north, 'peers', 'add', `${south.agent.host.address.ipv4}:9`);
    t.match(refused.stderr, /^Error: handshake failed: connection refused$/m);
    t.not(refused.code, 0, refused.stderr);
    t.match(north.agent.process.output(), /handshake failed: connection refused.*try=1/);
    t.match(north.agent.process.output(), /handshake failed: connection refused.*try=2/, 'three tries');

    // An agent whose license is of another customer has the place of the fifth host.
    const alien = cluster.member(4).agent;
    await alien.stop();
    const fresh = await lab.startAgent('alien', {
      env: { ...env, DATA_DIR: join(lab.host('alien').directory, 'other') },
    });
    await bootstrap(fresh, cluster.issuer.issue({ customer: 'cust_other' }), 'alien');
    const mismatch = await cli(north, 'peers', 'add', fresh.address);
    t.match(mismatch.stderr, /^Error: handshake failed: license mismatch$/m);

    const exists = await cli(north, 'peers', 'add', south.agent.address);
    t.match(exists.stderr, /^Error: peer already exists in cluster$/m);

    if (!LONG) return;
    // Another agent where east was: members that look for east find somebody else's key.
    await east.agent.stop();
    const directory = lab.host('east').directory;
    const usurper = await lab.startAgent('east', { env: { ...env, DATA_DIR: join(directory, 'other') } });
    await bootstrap(usurper, cluster.issuer.issue({ maxNodes: 5 }), 'usurper');
    await eventually(
      'the key is not the one it should be',
      async () => {
        const status = (await call(north, 'GET', '/v1/cluster/status')).json<{
          peers: { id: string; state: string; reason: string | null }[];
        }>();
        const row = status.peers.find(({ id }) => id === east.identity.peer_id);
        return row?.state === 'unreachable' && row.reason === 'handshake failed: invalid signature';
      },
      90_000,
    );
    await usurper.stop();
    await lab.startAgent('east', { env: { ...env, ...clocks.get('east')?.env } });
    await cli(north, 'cluster', 'sync');
    await fullMesh();
  });

  await t.test('a request for another member', async (t) => {
    const created = await call(north, 'POST', '/v1/services', {
      body: { name: 'forwarded', target_peer_id: south.identity.peer_id },
      headers: { 'x-arctic-peer': west.identity.peer_id },
    });
    t.equal(created.status, 201, created.text);
    const service = created.json<{ id: string; source_peer_id: string }>();
    t.equal(service.source_peer_id, west.identity.peer_id, 'the local peer is the one that was named');
    const { events } = (
      await call(west, 'GET', `/v1/events?type=service.created&entity=${service.id}`)
    ).json<{ events: { id: string }[] }>();
    const event = (await call(west, 'GET', `/v1/events/${events[0]?.id}`)).json<{
      origin: string;
      actor: { kind: string; id: string; address: string };
    }>();
    t.equal(event.origin, west.identity.peer_id);
    t.match(event.actor, { kind: 'client', id: north.identity.client_id, address: '127.0.0.1' });

    const shown = await cli(north, 'services', 'list', '--peer', west.identity.peer_id);
    t.match(shown.stdout, /forwarded/, shown.stderr);
    for (const [headers, status] of [
      [{ 'x-arctic-peer': 'peer_01JD0000000000000000000000' }, 404],
      [{ 'x-arctic-peer': 'west' }, 400],
      [{ 'x-arctic-hop': `${south.identity.peer_id} ${Date.now()} 10.0.0.1 AAAA` }, 401],
    ] as const)
      t.equal((await call(north, 'GET', '/v1/peers', { headers })).status, status, JSON.stringify(headers));
  });

  await t.test('an internal peer answers its recovery token only, and goes on as a member', async (t) => {
    const changed = await cli(north, 'peers', 'update', south.identity.peer_id, '--api-access', 'internal');
    t.equal(changed.code, 0, changed.stderr);
    await eventually('south is internal', async () => (await call(south, 'GET', '/v1/peers')).status === 403);
    const forwarded = await call(north, 'GET', '/v1/peers', {
      headers: { 'x-arctic-peer': south.identity.peer_id },
    });
    t.match([forwarded.status, forwarded.json()], [403, { code: 'FORBIDDEN', error: /internal/ }]);
    t.equal((await south.agent.request('GET', '/livez')).status, 200);
    const tokenFile = join(south.agent.configDir, 'recovery.token');
    const recovery = readFileSync(tokenFile, 'utf8').trim();
    const through = await lab.cli(
      'south',
      ['services', 'list', '--json', '--url', south.agent.url, '--recovery-token-file', tokenFile],
      { check: false },
    );
    t.match(through.stdout, /forwarded/, through.stderr);
    t.match(south.agent.process.output(), /level=warn .*the recovery token was used/);
    const used = await south.agent.request('GET', '/v1/events?type=recovery.used', {
      headers: { 'x-arctic-recovery': recovery },
    });
    t.match(used.text, /"kind":"recovery"/, 'and it is an event');
    t.equal(
      (await south.agent.request('GET', '/v1/peers', { headers: { 'x-arctic-recovery': `${recovery}x` } }))
        .status,
      401,
    );
    const wrongHost = await north.agent.request('GET', '/v1/peers', {
      headers: { 'x-arctic-recovery': recovery },
    });
    t.equal(wrongHost.status, 401, 'it is worth nothing elsewhere');
    const opened = await south.agent.request('PUT', `/v1/peers/${south.identity.peer_id}`, {
      body: { api_access: 'open' },
      headers: { 'x-arctic-recovery': recovery },
    });
    t.equal(opened.status, 200, opened.text);
    t.equal((await call(south, 'GET', '/v1/peers')).status, 200);
  });

  await t.test('the lock is a lease with a fence, everywhere', async (t) => {
    const write = (by: Member, name: string, fence?: number) =>
      call(by, 'POST', '/v1/services', {
        body: { name, target_peer_id: south.identity.peer_id },
        ...(fence === undefined ? {} : { headers: { 'x-arctic-fence': String(fence) } }),
      });
    const taken = await call(north, 'POST', '/v1/cluster/lock', {
      body: { holder: 'ann', purpose: 'a change', ttl_seconds: 30 },
    });
    t.equal(taken.status, 201, taken.text);
    const { fence } = taken.json<{ lock: { fence: number } }>().lock;
    t.equal((await write(north, 'unfenced')).status, 409);
    t.equal((await write(north, 'with-the-lock', fence)).status, 201);
    await eventually('west knows of the lock', async () => (await write(west, 'elsewhere')).status === 409);
    t.match((await write(west, 'elsewhere')).json(), {
      code: 'CLUSTER_LOCKED',
      error: /locked by ann \(a change\)/,
    });
    t.equal((await call(west, 'POST', '/v1/cluster/lock', { body: {} })).status, 409, 'it is taken');
    const status = await cli(west, 'cluster', 'status');
    t.match(status.stdout, /Lock: +held by ann/, status.stderr);
    t.match((await cli(west, 'cluster', 'lock')).stdout, /Holder: +ann\n *Purpose: +a change/);

    for (const host of HOSTS) clocks.get(host)?.pass(31_000);
    t.match((await write(north, 'too-late', fence)).json(), {
      code: 'CLUSTER_LOCKED',
      error: /lease .* has ended, so this change was not made/,
    });
    t.equal((await write(west, 'it-ended-by-itself')).status, 201);

    const next = await call(north, 'POST', '/v1/cluster/lock', {
      body: { holder: 'bob', ttl_seconds: 3_600 },
    });
    const newer = next.json<{ lock: { fence: number } }>().lock.fence;
    t.ok(newer > fence, 'fences only grow');
    const unlocked = await cli(north, 'cluster', 'unlock', '--yes');
    t.equal(unlocked.code, 0, unlocked.stderr);
    t.equal((await write(north, 'of-the-broken-one', newer)).status, 409, 'whoever lost it is fenced off');
    t.equal((await write(north, 'free-again')).status, 201);
  });

  await t.test('status and sync say what an operator needs', async (t) => {
    const sync = await cli(west, 'cluster', 'sync');
    t.equal(sync.code, 0, sync.stderr);
    t.match(sync.stdout, /a gossip round and a full pass of every reconciler/);
    await eventually('one digest in the status of one', async () => {
      const { stdout } = await cli(west, 'cluster', 'status', '--json');
      const { peers } = JSON.parse(stdout) as { peers: { projection_digest: string; lag: number }[] };
      return peers.length === 4 && new Set(peers.map((one) => one.projection_digest)).size === 1;
    });
    const { stdout } = await cli(west, 'cluster', 'status');
    t.match(stdout, /PEER +STATE +LAST SEEN +LAG +LOG HEAD +DIGEST/);
    for (const name of HOSTS) t.match(stdout, new RegExp(`^${name} +active`, 'm'));
  });
});
