import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import { type AddressInfo, createServer as createTcpServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import type { PeerId } from '../../../events/brand.ts';
import { type Random, systemClock } from '../../../events/clock.ts';
import { createSigner } from '../../../events/ed25519.ts';
import { createIds, newClusterId, newPeerId } from '../../../events/ids.ts';
import { openLog } from '../../../events/log.ts';
import type { Log } from '../../../events/log-contract.ts';
import { createProjections, type Projections } from '../../../projections/runner.ts';
import { createGossip, type GossipService } from '../../../src/gossip/gossip.ts';
import { PROTOCOL } from '../../../src/gossip/parameters.ts';
import {
  createLicenseRoot,
  issueLicense,
  type License,
  verifyLicense,
} from '../../../src/identity/license.ts';

const random: Random = { bytes: (count) => new Uint8Array(randomBytes(count)), fraction: Math.random };
const ids = createIds({ clock: systemClock, random });
const root = createLicenseRoot(random);
const roots = [{ name: 'test.pub', path: 'test.pub', publicKey: root.publicKey }];
const license = issueLicense(
  root,
  {
    customerId: 'cust_http',
    maxNodes: 10,
    maxServices: 10,
    features: [],
    expiresAt: Date.now() + 365 * 86_400_000,
  },
  { clock: systemClock, ids },
);
const directory = mkdtempSync(join(tmpdir(), 'arctic-gossip-'));
t.teardown(() => rmSync(directory, { recursive: true, force: true }));

const CONTEXT = { actor: { kind: 'system', id: null, address: null }, correlationId: 'cor_test' } as const;

/** A real agent's peer-to-peer part: SQLite log, projections, gossip, and an HTTP server on an ephemeral port. */
class Host {
  readonly name: string;
  readonly peerId: PeerId = newPeerId(ids);
  readonly signer = createSigner(random.bytes(32));
  readonly license: License;
  address = '';
  log: Log | undefined;
  projections: Projections | undefined;
  gossip: GossipService | undefined;
  #server: Server | undefined;
  #port = 0;

  readonly protocols: readonly number[] | undefined;

  constructor(name: string, of: License = license, protocols?: readonly number[]) {
    this.name = name;
    this.license = of;
    this.protocols = protocols;
  }

  async start(): Promise<void> {
    const log = openLog(
      { path: join(directory, `${this.name}.db`), origin: this.peerId },
      {
        signer: this.signer,
        clock: systemClock,
        random,
        onError: (error) => t.fail('a subscriber threw', { error }),
      },
    );
    const projections = createProjections({ localPeer: this.peerId }, { log, clock: systemClock });
    projections.start();
    const server = createServer(async (request, response) => {
      const chunks: Buffer[] = [];
      for await (const chunk of request) chunks.push(chunk as Buffer);
      const answer = await gossip.handle({
        method: request.method ?? '',
        path: request.url ?? '',
        headers: {},
        body: Buffer.concat(chunks),
        remoteAddress: request.socket.remoteAddress ?? '',
      });
      response.writeHead(answer.status, answer.headers).end(answer.body);
    });
    await new Promise<void>((resolve) => server.listen(this.#port, '127.0.0.1', resolve));
    this.#port = (server.address() as AddressInfo).port;
    this.address = `127.0.0.1:${this.#port}`;
    const profile = () => ({
      name: this.name,
      address: this.address,
      endpoints: [`http://${this.address}`],
      version: 'v1.4.0',
    });
    const gossip = createGossip(
      {
        heartbeatSeconds: 1,
        handshakeTimeoutMs: 400,
        dataPorts: [
          { protocol: 'tcp', port: 61_000 },
          { protocol: 'udp', port: 61_000 },
          { protocol: 'udp', port: 51_840 },
        ],
      },
      {
        clock: systemClock,
        random,
        identity: {
          peerId: this.peerId,
          publicKey: this.signer.publicKey,
          sign: (message) => this.signer.sign(message),
        },
        log,
        views: projections.views,
        profile,
        verifyLicense: (document) => {
          try {
            verifyLicense(document, roots);
            return true;
          } catch {
            return false;
          }
        },
        projectionDigest: () => projections.digest(),
        report: () => {},
        ...(this.protocols === undefined ? {} : { protocols: this.protocols }),
      },
    );
    this.log = log;
    this.projections = projections;
    this.gossip = gossip;
    this.#server = server;
    if (log.head === 0) this.#bootstrap(log);
    await gossip.start();
  }

  #bootstrap(log: Log): void {
    const cluster_id = newClusterId(ids);
    log.append(
      [
        {
          type: 'cluster.created',
          entity: cluster_id,
          data: { cluster_id, customer_id: this.license.customer_id, name: null, description: null },
        },
        { type: 'license.installed', entity: this.license.license_id, data: { license: this.license } },
        {
          type: 'peer.registered',
          entity: this.peerId,
          data: {
            peer_id: this.peerId,
            public_key: Buffer.from(this.signer.publicKey).toString('base64'),
            name: this.name,
            address: this.address,
            endpoints: [`http://${this.address}`],
            api_access: 'open',
            cluster_id,
            license_id: this.license.license_id,
            version: 'v1.4.0',
          },
        },
      ],
      CONTEXT,
    );
  }

  write(version: string): void {
    this.log?.append([{ type: 'peer.updated', entity: this.peerId, data: { version } }], CONTEXT);
  }

  digest(): string {
    return `${JSON.stringify(Object.entries(this.log?.versionVector() ?? {}).sort())} ${this.projections?.digest()}`;
  }

  get service(): GossipService {
    if (this.gossip === undefined) throw new Error(`${this.name} is down`);
    return this.gossip;
  }

  async stop(): Promise<void> {
    await this.gossip?.stop();
    this.#server?.closeAllConnections();
    await new Promise<void>((resolve) => (this.#server ? this.#server.close(() => resolve()) : resolve()));
    this.projections?.stop();
    this.log?.close();
    this.gossip = undefined;
  }
}

async function hosts(t: Test, ...names: string[]): Promise<Host[]> {
  const all = names.map((name) => new Host(name));
  for (const host of all) await host.start();
  t.teardown(async () => {
    for (const host of all) if (host.gossip !== undefined) await host.stop();
  });
  return all;
}

async function converged(all: readonly Host[]): Promise<boolean> {
  for (let i = 0; i < 400; i += 1) {
    if (new Set(all.map((host) => host.digest())).size === 1) return true;
    await new Promise((resolve) => setTimeout(resolve, 25));
  }
  return false;
}

t.test('two hosts join over HTTP; a third is introduced by gossip', async (t) => {
  const [a, b, c] = await hosts(t, 'a', 'b', 'c');
  if (!a || !b || !c) throw new Error('three hosts are needed');
  t.equal(await a.service.addPeer(b.address, 'second', CONTEXT), b.peerId);
  t.equal(a.digest(), b.digest(), 'the logs agree when the join returns');
  t.equal(b.projections?.views.peers.get(b.peerId)?.name, 'second');
  t.equal(await b.service.addPeer(c.address, undefined, CONTEXT), c.peerId);
  t.ok(await converged([a, b, c]));
  await a.service.sync();
  await c.service.sync();
  t.equal(a.service.observed(c.peerId).state, 'active');
  t.equal(c.service.observed(a.peerId).state, 'active');
  t.ok(a.service.keys.current(c.peerId));
  for (const host of [a, b, c]) host.write(`from-${host.name}`);
  t.ok(await converged([a, b, c]));

  await t.rejects(a.service.addPeer(c.address, undefined, CONTEXT), {
    code: 'ALREADY_EXISTS',
    message: 'peer already exists in cluster',
  });

  await t.test('a host that was down catches up, with what happened on both sides', async (t) => {
    await c.stop();
    for (let i = 0; i < 50; i += 1) a.write(`while-c-was-away-${i}`);
    await c.start();
    t.ok(await converged([a, b, c]));
    t.equal(a.service.observed(c.peerId).state, 'active');
    await c.service.sync();
    t.doesNotThrow(() => c.service.requireAppendable());
  });

  await t.test('a farewell is heard', async (t) => {
    await c.service.leave();
    t.match(a.service.observed(c.peerId), {
      state: 'unreachable',
      reason: 'the peer announced that it stops',
    });
  });
});

t.test(
  'a cluster is upgraded host by host: agents of this protocol and the next one work in one',
  async (t) => {
    const next = [PROTOCOL + 1, PROTOCOL];
    const old = new Host('old');
    const upgraded = new Host('upgraded', license, next);
    const another = new Host('another', license, next);
    const tooNew = new Host('too-new', license, [PROTOCOL + 2, PROTOCOL + 1]);
    const all = [old, upgraded, another];
    for (const host of [...all, tooNew]) await host.start();
    t.teardown(async () => {
      for (const host of [...all, tooNew]) if (host.gossip !== undefined) await host.stop();
    });
    t.equal(
      await upgraded.service.addPeer(old.address, undefined, CONTEXT),
      old.peerId,
      'the new one adds the old',
    );
    t.equal(
      await old.service.addPeer(another.address, undefined, CONTEXT),
      another.peerId,
      'and the other way',
    );
    for (const host of all) host.write(`by-${host.name}`);
    t.ok(await converged(all), 'what each of them writes is everywhere');

    await old.stop();
    upgraded.write('while-the-old-one-was-down');
    await old.start();
    t.ok(await converged(all), 'and a host that was down catches up');

    for (const [from, to] of [
      [old, tooNew],
      [tooNew, old],
    ] as const)
      await t.rejects(from.service.addPeer(to.address, undefined, CONTEXT), {
        code: 'HANDSHAKE_FAILED',
        message: 'handshake failed: no common protocol version; upgrade the older agent',
      });
  },
);

t.test('the handshake failures of the troubleshooting page, over real sockets', async (t) => {
  const [a] = await hosts(t, 'd');
  if (!a) throw new Error('a host is needed');
  const add = (address: string) => a.service.addPeer(address, undefined, CONTEXT);

  const silent = createTcpServer();
  await new Promise<void>((resolve) => silent.listen(0, '127.0.0.1', resolve));
  const { port } = silent.address() as AddressInfo;
  await new Promise((resolve) => silent.close(resolve));
  await t.rejects(add(`127.0.0.1:${port}`), {
    code: 'HANDSHAKE_FAILED',
    message: 'handshake failed: connection refused',
    details: [
      {
        message:
          `nothing answers at 127.0.0.1:${port}: TCP port ${port} has to be open there for connections from this host (inbound; ` +
          'on a NAT, forwarded to the agent); the traffic itself needs TCP port 61000, UDP port 61000, and UDP port 51840 open in ' +
          "both directions ('arctic doctor' tries them)",
      },
    ],
  });

  const foreign = issueLicense(
    root,
    {
      customerId: 'cust_other',
      maxNodes: 10,
      maxServices: 1,
      features: [],
      expiresAt: Date.now() + 86_400_000,
    },
    { clock: systemClock, ids },
  );
  const stranger = new Host('e', foreign);
  await stranger.start();
  const before = stranger.digest();
  await t.rejects(add(stranger.address), {
    code: 'LICENSE_MISMATCH',
    message: 'handshake failed: license mismatch',
  });
  t.equal(stranger.digest(), before);
  await stranger.stop();

  const forger = new Host('f', { ...license, max_nodes: 9_999 });
  await forger.start();
  await t.rejects(forger.service.addPeer(a.address, undefined, CONTEXT), {
    message: 'handshake failed: license mismatch',
  });
  await t.rejects(add(forger.address), { message: 'handshake failed: license mismatch' });
  await forger.stop();

  const web = createServer((_request, response) => response.writeHead(404).end('<html>not an agent</html>'));
  await new Promise<void>((resolve) => web.listen(0, '127.0.0.1', resolve));
  await t.rejects(add(`127.0.0.1:${(web.address() as AddressInfo).port}`), {
    code: 'HANDSHAKE_FAILED',
    message: /^handshake failed: the address does not answer like an Arctic agent/,
  });
  web.closeAllConnections();
  await new Promise((resolve) => web.close(resolve));
  t.ok((a.log?.read({ types: ['handshake.failed'] }).length ?? 0) >= 4);
  t.same(a.projections?.views.peers.list().length, 1, 'nobody was admitted');
});

t.test('connection timeout: a path exists, but nothing answers', async (t) => {
  const [a] = await hosts(t, 'g');
  if (!a) throw new Error('a host is needed');
  const mute = createTcpServer(() => {});
  await new Promise<void>((resolve) => mute.listen(0, '127.0.0.1', resolve));
  const sockets = new Set<import('node:net').Socket>();
  mute.on('connection', (socket) => sockets.add(socket));
  await t.rejects(
    a.service.addPeer(`127.0.0.1:${(mute.address() as AddressInfo).port}`, undefined, CONTEXT),
    {
      code: 'HANDSHAKE_FAILED',
      message: 'handshake failed: connection timeout',
    },
  );
  for (const socket of sockets) socket.destroy();
  await new Promise((resolve) => mute.close(resolve));
});
