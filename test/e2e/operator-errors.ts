/** For every error code of the catalogue what an operator has to do to see it, on real agents. */

import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { ErrorCode } from '../../events/errors.ts';
import type { ExecResult } from '../../ops/lab/lab.ts';
import { createIssuer, eventually } from './cluster.ts';
import { MOST_SERVICES, type World } from './operator-world.ts';

export type Scenario =
  /** Commands; the last one is refused with the code. */
  | { readonly refused: (world: World) => Promise<ExecResult>; readonly says: RegExp }
  /** The command line never gets it, a client of the API of the same agent does. */
  | {
      readonly answered: (world: World) => Promise<{ status: number; text: string }>;
      readonly because: string;
    }
  | { readonly unreachable: string };

const NOBODY = 'svc_01JD0000000000000000000000';

const entry = (world: World, ...argv: string[]) => world.arctic('entry', argv);
const third = (world: World, ...argv: string[]) => world.arctic('third', argv);

const service = (world: World, name: string) =>
  entry(world, 'services', 'create', '--target-peer', 'exit', '--name', name, '--trace');

/**
 * In this order: the third agent is bare at first, then a cluster of its own whose license runs out; the exit is stopped
 * last.
 */
export const ERROR_SCENARIOS: Readonly<Record<ErrorCode, Scenario>> = {
  NOT_BOOTSTRAPPED: {
    refused: (world) => third(world, 'peers', 'list', '--trace'),
    says: /has not been bootstrapped; run: arctic bootstrap --license-file FILE/,
  },
  LICENSE_INVALID: {
    refused: (world) => {
      const stranger = createIssuer(join(world.lab.directory, 'stranger'));
      return third(
        world,
        'bootstrap',
        '--trace',
        '--license-file',
        world.license('strange.json', {}, stranger),
      );
    },
    says: /trust/,
  },
  LICENSE_EXPIRED: {
    async refused(world) {
      const path = world.license('short.json', { days: 1.5 / 86_400 });
      await sleep(2_000);
      return third(world, 'bootstrap', '--trace', '--license-file', path);
    },
    says: /expired/,
  },
  TOO_LARGE: {
    refused: (world) =>
      third(
        world,
        'bootstrap',
        '--trace',
        '--license-file',
        world.file('large.json', JSON.stringify({ license_id: 'x'.repeat(1_200_000) })),
      ),
    says: /too large; at most 1 MiB/,
  },
  INVALID_REQUEST: {
    refused: (world) => entry(world, 'services', 'create', '--target-peer', 'entry', '--trace'),
    says: /a service leads to another peer/,
  },
  UNAUTHORIZED: {
    refused: (world) => entry(world, 'peers', 'list', '--token', 'nonsense', '--trace'),
    says: /token/,
  },
  FORBIDDEN: {
    refused: async (world) =>
      entry(world, 'services', 'list', '--trace', '--token', await world.token('peers.read')),
    says: /scope/,
  },
  NOT_FOUND: {
    refused: (world) => entry(world, 'services', 'get', NOBODY, '--trace'),
    says: /there is no service svc_01JD0{22}; see: arctic services list/,
  },
  ALREADY_BOOTSTRAPPED: {
    refused: (world) =>
      entry(world, 'bootstrap', '--license-file', join(world.lab.directory, 'license.json'), '--trace'),
    says: /belongs to cluster clu_/,
  },
  ALREADY_EXISTS: {
    refused: (world) => entry(world, 'peers', 'add', world.agent('exit').address, '--trace'),
    says: /^Error: peer already exists in cluster$/m,
  },
  HANDSHAKE_FAILED: {
    refused: (world) => entry(world, 'peers', 'add', `${world.lab.host('exit').address.ipv4}:9`, '--trace'),
    says: /^Error: handshake failed: connection refused$/m,
  },
  LICENSE_MISMATCH: {
    refused: (world) =>
      entry(world, 'license', 'install', world.license('other.json', { customer: 'cust_other' }), '--trace'),
    says: /cust_other/,
  },
  CANNOT_REVOKE_CURRENT: {
    async refused(world) {
      const config = await entry(world, 'config', 'view', '--json');
      const { clusters } = JSON.parse(config.stdout) as { clusters: Record<string, { client_id: string }> };
      const [own] = Object.values(clusters);
      return entry(world, 'credentials', 'revoke', own?.client_id ?? '', '--yes', '--trace');
    },
    says: /revoke/,
  },
  SERVICE_LIMIT_EXCEEDED: {
    async refused(world) {
      for (let made = 0; made < MOST_SERVICES; made++) {
        const one = await service(world, `service-${made}`);
        if (one.code !== 0) return one;
      }
      return service(world, 'one-too-many');
    },
    says: new RegExp(`allows ${MOST_SERVICES} services and the cluster has ${MOST_SERVICES}`),
  },
  INVALID_CIDR: {
    refused: (world) =>
      entry(
        world,
        ...['routes', 'add', '--service', 'service-0', '--priority', '1', '--dest-cidr', '10.7.0.1/16'],
        '--trace',
      ),
    says: /10\.7\.0\.0\/16/,
  },
  CONFLICT: {
    async answered(world) {
      const token = await world.token('admin');
      const list = await world.agent('entry').request('GET', '/v1/services', { token });
      const [first] = list.json<{ services: { id: string }[] }>().services;
      return world.agent('entry').request('PUT', `/v1/services/${first?.id}`, {
        token,
        headers: { 'if-match': '"999"' },
        body: { bandwidth_limit_mbps: 1 },
      });
    },
    because: 'the command line sends only what is to change, so it never holds a version that could be stale',
  },
  CLUSTER_LOCKED: {
    async refused(world) {
      const taken = await world.agent('entry').request('POST', '/v1/cluster/lock', {
        token: await world.token('admin'),
        body: { holder: 'alice@ws-1', purpose: 'a test' },
      });
      if (taken.status !== 201) throw new Error(taken.text);
      const result = await entry(
        world,
        'services',
        'update',
        'service-0',
        '--bandwidth-limit',
        '5',
        '--trace',
      );
      await entry(world, 'cluster', 'unlock', '--yes');
      return result;
    },
    says: /the cluster is locked by alice@ws-1 \(a test\) until .*arctic cluster unlock/,
  },
  RATE_LIMITED: {
    async refused(world) {
      const config = world.file(
        'wrong.yaml',
        `current_cluster: clu_01JD0000000000000000000000
clusters:
  clu_01JD0000000000000000000000:
    cluster_id: clu_01JD0000000000000000000000
    customer_id: cust_lab
    client_id: cli_01JD0000000000000000000000
    client_secret: sec_${'A'.repeat(43)}
    peers: [{ peer_id: peer_01JD0000000000000000000000, endpoints: ['http://localhost:8080'] }]
    default_peer: peer_01JD0000000000000000000000
`,
      );
      const form = new URLSearchParams({
        grant_type: 'client_credentials',
        client_id: 'cli_01JD0000000000000000000000',
        client_secret: 'sec_wrong',
      });
      let status = 0;
      // Bounded by the burst of the rate limit.
      for (let tries = 0; status !== 429 && tries < 500; tries++)
        ({ status } = await world.agent('exit').request('POST', '/v1/oauth/token', { body: form }));
      return world.arctic('exit', ['peers', 'list', '--config', config, '--trace']);
    },
    says: /too many token requests; try again in \d+ s\./,
  },
  NODE_LIMIT_EXCEEDED: {
    async refused(world) {
      const path = world.license('alone.json', { maxNodes: 1, days: 5 });
      const made = await third(world, 'bootstrap', '--license-file', path, '--name', 'third');
      if (made.code !== 0) return made;
      return third(world, 'peers', 'add', world.agent('entry').address, '--trace');
    },
    says: /^Error: handshake failed: node limit exceeded$/m,
  },
  LICENSE_READ_ONLY: {
    async refused(world) {
      await world.later('third', 5 + 14 + 1);
      return third(world, 'peers', 'update', 'third', '--name', 'renamed', '--trace');
    },
    says: /its grace is over, so nothing can be changed; install a new one with: arctic license install FILE/,
  },
  LICENSE_SUSPENDED: {
    async refused(world) {
      await world.later('third', 5 + 14 + 30 + 1);
      return third(world, 'peers', 'list', '--trace');
    },
    says: /is suspended, so services are stopped/,
  },
  UNAVAILABLE: {
    async refused(world) {
      await world.agent('exit').stop();
      return eventually('the exit is missed', async () => {
        const result = await entry(world, 'services', 'list', '--peer', 'exit', '--trace');
        return result.code === 0 ? undefined : result;
      });
    },
    says: /could not be reached at http/,
  },
  INTERNAL: {
    unreachable:
      'it answers a fault of the agent itself; what a client, a disk or another peer can do to it has a code of its own ' +
      '(test/unit/api throws inside a handler to see it)',
  },
};
