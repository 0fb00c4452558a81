/** A home whose configuration names one cluster, before an API that answers as it is told. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Test } from 'tap';
import { type FakeApi, startFakeApi } from './fake-api.ts';
import { createHome, type Home } from './run-cli.ts';

export const ULID = '01JD0000000000000000000000';
export const LOCAL = `peer_${ULID}`;
export const OTHER = 'peer_01JD0000000000000000000001';
export const SERVICE = `svc_${ULID}`;
export const CLUSTER = `clu_${ULID}`;
export const SECRET = `sec_${'s'.repeat(43)}`;

export const peer = (id: string, name: string, local: boolean) => ({
  id,
  name,
  public_key: `${'A'.repeat(43)}=`,
  is_local: local,
  address: `${name}.example:8080`,
  endpoints: [],
  state: 'active',
  api_access: 'open',
  last_seen_at: local ? null : new Date().toISOString(),
  created_at: '2026-01-01T00:00:00.000Z',
  version: 1,
});
export const peers = [peer(LOCAL, 'london', true), peer(OTHER, 'paris', false)];
export const applied = { state: 'applied', reason: null };
export const service = {
  id: SERVICE,
  name: 'web',
  source_peer_id: LOCAL,
  target_peer_id: OTHER,
  transport_type: 'tcp',
  requires_interface: true,
  desired_ipv4_cidr: '10.1.0.5/24',
  desired_ipv6_cidr: null,
  interface_name: SERVICE.slice(0, 15),
  interface_ipv4_cidr: '10.1.0.5/24',
  interface_ipv6_cidr: null,
  fully_transparent: true,
  bandwidth_limit_mbps: 50,
  on_failure: 'direct',
  route_count: 1,
  routes: [{ id: 1, service_id: SERVICE, priority: 100, source_cidr: null, dest_cidr: '192.168.7.0/24' }],
  created_at: '2026-01-01T00:00:00.000Z',
  updated_at: '2026-01-01T00:00:00.000Z',
  version: 1,
  status: {
    iptun: { state: 'pending', reason: 'waiting for a handshake' },
    network: applied,
    firewall: applied,
    tproxy: applied,
  },
};

/** A configuration with one cluster whose peer answers at the given URLs. */
export function writeConfig(home: Home, endpoints: readonly string[], extra = ''): void {
  mkdirSync(join(home.directory, 'arctic'), { recursive: true });
  writeFileSync(
    home.configPath,
    `# kept comment
current_cluster: ${CLUSTER}
clusters:
  ${CLUSTER}:
    cluster_id: ${CLUSTER}
    customer_id: cust_acme
    client_id: cli_${ULID}
    client_secret: ${SECRET}
    peers:
      - peer_id: ${LOCAL}
        name: london
        endpoints:
${endpoints.map((one) => `          - ${one}`).join('\n')}
    default_peer: ${LOCAL}
    name: production
preferences: {}
${extra}`,
    { mode: 0o600 },
  );
}

/** A home and an API for one test, gone after it. */
export async function scene(
  t: Test,
  replies: Parameters<typeof startFakeApi>[0] = {},
): Promise<[Home, FakeApi]> {
  const home = createHome();
  const api = await startFakeApi(replies);
  t.teardown(async () => {
    await api.close();
    home.remove();
  });
  return [home, api];
}
