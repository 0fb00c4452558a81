import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { pino } from 'pino';
import { Registry } from 'prom-client';
import type { Test } from 'tap';
import type { TSchema } from 'typebox';
import { Compile } from 'typebox/compile';
import { Agent, request } from 'undici';
import type { PeerId } from '../../../events/brand.ts';
import type { Actor } from '../../../events/envelope.ts';
import type { Log } from '../../../events/log-contract.ts';
import type {
  ApiOptions,
  PeerSide,
  ReconcilerSide,
  TrafficSide,
  TunnelSide,
} from '../../../src/api/ports.ts';
import { ErrorAnswer } from '../../../src/api/schemas/fields.ts';
import { type Api, createApi } from '../../../src/api/server.ts';
import { decideAdmitPeer } from '../../../src/commands/peers.ts';
import type { Identity } from '../../../src/identity/contract.ts';
import {
  createLicenseRoot,
  issueLicense,
  type License,
  type LicenseRoot,
} from '../../../src/identity/license.ts';
import { createRecoveryToken } from '../../../src/identity/recovery-token.ts';
import { newIdentity, openLocalPeer, random, START, type TestClock } from '../local-peer.ts';

const DAY = 86_400_000;

export interface Answer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly text: string;
  /** `text` parsed: a test looks into JSON of many shapes, and fails where it is another. */
  readonly body: ReturnType<typeof JSON.parse>;
}

export interface Send {
  readonly token?: string | undefined;
  readonly body?: unknown;
  /** Sent as it is, as JSON. */
  readonly raw?: string;
  readonly form?: Readonly<Record<string, string>>;
  readonly headers?: Readonly<Record<string, string>>;
  readonly remoteAddress?: string;
}

export interface Bootstrapped {
  readonly peer_id: PeerId;
  readonly client_id: string;
  readonly client_secret: string;
  readonly cluster_id: string;
  readonly license_id: string;
}

export interface Harness {
  readonly api: Api;
  /** Where it listens; starts it when it does not yet. */
  listening(): Promise<{ readonly host: string; readonly port: number }>;
  readonly clock: TestClock;
  readonly log: Log;
  readonly identity: Identity;
  readonly root: LicenseRoot;
  readonly recoveryFile: string;
  readonly lines: string[];
  readonly messages: unknown[];
  /** Reconcilers that fail, and why. */
  readonly failing: Map<string, string>;
  /** What the next handshakes fail with. */
  failHandshakes(error: Error): void;
  license(terms?: Partial<{ customer: string; nodes: number; services: number; days: number }>): License;
  send(method: string, path: string, options?: Send): Promise<Answer>;
  bootstrap(terms?: Parameters<Harness['license']>[0]): Promise<Bootstrapped>;
  token(client: string, secret: string, scope?: string): Promise<string>;
  /** Bootstraps and gives an admin's token. */
  admin(terms?: Parameters<Harness['license']>[0]): Promise<string>;
  /** Makes another member, as gossip would after a handshake. */
  admit(name: string, options?: { readonly identity?: Identity; readonly endpoint?: string }): PeerId;
}

const checkError = Compile(ErrorAnswer);

export function createHarness(
  t: Test,
  listen: {
    readonly port?: number;
    readonly tls?: ApiOptions['tls'];
    readonly traffic?: Partial<TrafficSide>;
    readonly tunnels?: TunnelSide;
    /** Until when a fight holds the firewall's repair back. */
    readonly repairAt?: string;
  } = {},
): Harness {
  const { directory, clock, ids, identity, log, projections, executor } = openLocalPeer('arctic-api-');
  const root = createLicenseRoot(random);
  const recoveryFile = join(directory, 'recovery.token');
  const lines: string[] = [];
  const messages: unknown[] = [];
  const failing = new Map<string, string>();
  const dispatcher = new Agent({ connectTimeout: 1_000 });

  const admit: Harness['admit'] = (name, options = {}) => {
    const peer = options.identity ?? newIdentity(clock);
    const actor: Actor = { kind: 'system', id: null, address: null };
    executor.execute({ actor, correlationId: 'test' }, (now, at) =>
      decideAdmitPeer(
        now,
        {
          peer_id: peer.peerId,
          public_key: Buffer.from(peer.publicKey).toString('base64'),
          name,
          address: `${name}.example:8080`,
          endpoints: [options.endpoint ?? `http://${name}.example:8080`],
          invited: true,
        },
        at,
      ),
    );
    return peer.peerId;
  };

  let handshakeFailure: Error | undefined;
  const peerSide: PeerSide = {
    addPeer: async (address, name) => {
      if (handshakeFailure !== undefined) throw handshakeFailure;
      return admit(name ?? address.split(':')[0] ?? 'peer');
    },
    sync: async () => void messages.push('gossip'),
    observed: () => ({
      state: 'active',
      last_seen_at: new Date(START).toISOString(),
      reason: null,
      closed_ports: [],
      lag: 0,
      log_head: 7,
      projection_digest: null,
      clock_skew_ms: 0,
      changes_held_until: null,
    }),
    allowance: () => ({ bytes: 4 * 1_048_576, session: 'member' }),
    handle: async (message) => {
      messages.push(message);
      return {
        status: 403,
        headers: { 'content-type': 'application/octet-stream' },
        body: Buffer.from('no'),
      };
    },
  };
  const applied = { state: 'applied', reason: null } as const;
  const reconcilers: ReconcilerSide = {
    sync: async () => void messages.push('reconcilers'),
    status: () => [
      {
        name: 'firewall',
        state: failing.has('firewall') ? 'failed' : 'applied',
        last_run_at: null,
        last_error: failing.get('firewall') ?? null,
        next_run_at: null,
        applied_digest: null,
        applied_position: null,
        consecutive_failures: 0,
        condition: null,
      },
    ],
    serviceStatus: () => ({
      network: applied,
      firewall: applied,
      tproxy: applied,
      iptun: { state: 'pending', reason: 'waiting for a handshake' },
    }),
    drift: async () => [
      {
        reconciler: 'firewall',
        differences: [{ item: 'rule 1', desired: 'present', observed: null }],
        repair_at: listen.repairAt ?? null,
      },
    ],
  };

  const traffic: TrafficSide = {
    stats: () => ({ implementation: 'typescript', services: {}, carriers: {}, kcp: {} }),
    flows: async () => [],
    carriage: () => undefined,
    silentOverKcp: () => [],
    ...listen.traffic,
  };

  const api = createApi(
    { host: '127.0.0.1', port: listen.port ?? 0, tls: listen.tls, version: '1.4.0', hostName: 'host-a' },
    {
      clock,
      random,
      ids,
      logger: pino({ level: 'trace' }, { write: (line: string) => void lines.push(line) }),
      log,
      projections,
      executor,
      identity,
      recovery: createRecoveryToken(recoveryFile, random),
      trustRoots: () => [{ name: 'test', publicKey: root.publicKey }],
      advertise: () => ({ address: '192.0.2.1:8080', endpoints: ['http://192.0.2.1:8080'] }),
      peerSide,
      reconcilers,
      traffic,
      tunnels: listen.tunnels ?? { stats: () => ({ peers: [] }) },
      setLogLevel: (_level, ms) => clock.now() + ms,
      dispatcher,
      registry: new Registry(),
    },
  );
  // Every answer is held against what the OpenAPI document says of it.
  const documented = new Map<string, Readonly<Record<string, TSchema>>>();
  let route = '';
  api.app.addHook('onRoute', ({ method, url, schema }) => {
    for (const one of [method].flat()) {
      documented.set(`${one} ${url}`, (schema?.response ?? {}) as Readonly<Record<string, TSchema>>);
    }
  });
  api.app.addHook('onSend', async (request, _reply, payload) => {
    route = `${request.method} ${request.routeOptions.url}`;
    return payload;
  });
  t.teardown(async () => {
    await api.stop();
    await dispatcher.destroy();
    projections.stop();
    log.close();
    rmSync(directory, { recursive: true, force: true });
  });

  let started: Promise<{ readonly host: string; readonly port: number }> | undefined;
  const listening: Harness['listening'] = () => (started ??= api.start());

  /** Through a socket, as every client comes; an address of its own choosing only an injected request can have. */
  const overHttp = async (
    method: string,
    path: string,
    headers: Readonly<Record<string, string>>,
    payload: string | undefined,
  ) => {
    const { port } = await listening();
    const answer = await request(new URL(path, `http://127.0.0.1:${port}`), {
      dispatcher,
      method: method as 'GET',
      headers,
      ...(payload === undefined ? {} : { body: payload }),
    });
    return { statusCode: answer.statusCode, headers: answer.headers, body: await answer.body.text() };
  };

  const send: Harness['send'] = async (method, path, options = {}) => {
    const { token, body, raw, form, headers, remoteAddress } = options;
    const payload =
      raw ??
      (form && new URLSearchParams(form).toString()) ??
      (body === undefined ? undefined : JSON.stringify(body));
    const type =
      form !== undefined
        ? 'application/x-www-form-urlencoded'
        : payload === undefined
          ? undefined
          : 'application/json';
    const carried = {
      ...(type === undefined ? {} : { 'content-type': type }),
      ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
      ...headers,
    };
    const answer =
      remoteAddress === undefined && listen.tls === undefined
        ? await overHttp(method, path, carried, payload)
        : await api.app.inject({
            method: method as 'GET',
            url: path,
            remoteAddress: remoteAddress ?? '198.51.100.7',
            headers: carried,
            ...(payload === undefined ? {} : { payload }),
          });
    const text = answer.body;
    const json = /^application\/json\b/.test(String(answer.headers['content-type']))
      ? JSON.parse(text)
      : undefined;
    if (answer.statusCode >= 400 && json !== undefined && !path.startsWith('/readyz')) {
      if (!checkError.Check(json)) throw new Error(`not the shape of an error: ${text}`);
      if (/ {4}at |node_modules/.test(text)) throw new Error(`a stack in an answer: ${text}`);
    }
    const forwarded = headers?.['x-arctic-peer'] !== undefined;
    if (answer.statusCode < 300 && json !== undefined && !forwarded && route !== 'GET /v1/openapi.json') {
      const schema = documented.get(route)?.[answer.statusCode];
      if (schema === undefined) throw new Error(`${route} does not document ${answer.statusCode}`);
      const check = Compile(schema);
      if (!check.Check(json)) throw new Error(`${route}: ${JSON.stringify(check.Errors(json))}`);
    }
    return {
      status: answer.statusCode,
      headers: answer.headers as Readonly<Record<string, string>>,
      text,
      body: json,
    };
  };

  const harness: Harness = {
    api,
    listening,
    clock,
    log,
    identity,
    root,
    recoveryFile,
    lines,
    messages,
    failing,
    failHandshakes: (error) => {
      handshakeFailure = error;
    },
    send,
    admit,
    license: ({ customer = 'cust_test', nodes = 5, services = 10, days = 365 } = {}) =>
      issueLicense(
        root,
        {
          customerId: customer,
          maxNodes: nodes,
          maxServices: services,
          features: [],
          expiresAt: clock.now() + days * DAY,
        },
        { clock, ids },
      ),
    async bootstrap(terms) {
      const answer = await send('POST', '/v1/bootstrap', {
        body: { license: harness.license(terms), name: 'first' },
      });
      if (answer.status !== 201) throw new Error(answer.text);
      return answer.body;
    },
    async token(client, secret, scope) {
      const answer = await send('POST', '/v1/oauth/token', {
        form: {
          grant_type: 'client_credentials',
          client_id: client,
          client_secret: secret,
          ...(scope === undefined ? {} : { scope }),
        },
      });
      if (answer.status !== 200) throw new Error(answer.text);
      return answer.body.access_token;
    },
    async admin(terms) {
      const { client_id, client_secret } = await harness.bootstrap(terms);
      return harness.token(client_id, client_secret);
    },
  };
  return harness;
}
