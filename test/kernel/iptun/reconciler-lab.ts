/**
 * client -- entry == exit -- server. The server knows no way back to the client, so that an answer proves the masquerade; the
 * entry knows none to the server but by the tunnel and, where a test wants it, directly.
 */
import { randomBytes } from 'node:crypto';
import type { Test } from 'tap';
import type { Cidr, PeerId, RouteKey, ServiceId } from '../../../events/brand.ts';
import { MARK } from '../../../projections/desired/contract.ts';
import type { DesiredTunnels } from '../../../src/reconcilers/iptun/desired.ts';
import { joinByVeth, makeNetns, type Netns } from '../netns.ts';
import { type EngineHost, startHost } from './lab.ts';

export const CLIENT = { v4: '10.71.1.2', v6: 'fd71:1::2' } as const;
export const ENTRY = { v4: '10.71.2.1', v6: 'fd71:2::1' } as const;
export const EXIT = { v4: '10.71.2.2', v6: 'fd71:2::2' } as const;
export const SERVER = { v4: '10.71.3.2', v6: 'fd71:3::2' } as const;
const ENTRY_PEER = 'peer_entry' as PeerId;
const EXIT_PEER = 'peer_exit' as PeerId;
const SERVICE = 'svc_lab' as ServiceId;

const ROUTES = [
  { family: 'ipv4', length: 24, dest: '10.71.3.0/24' },
  { family: 'ipv6', length: 64, dest: 'fd71:3::/64' },
] as const;

/** One service from entry to exit, by destination. */
export function desiredOf(side: 'entry' | 'exit', limitMbps = 0): DesiredTunnels {
  const peer = side === 'entry' ? EXIT_PEER : ENTRY_PEER;
  return {
    iptun: {
      peers: [
        {
          peer_id: peer,
          mark: MARK.tunnel | (side === 'entry' ? 0xabcde : 0x12345),
          services: [{ service_id: SERVICE, bandwidth_limit_mbps: limitMbps }],
        },
      ],
    },
    firewall: {
      services:
        side === 'entry'
          ? [
              {
                service_id: SERVICE,
                mark: MARK.service | 1,
                interface_name: null,
                on_failure: 'direct',
              },
            ]
          : [],
      classes:
        side === 'entry'
          ? ROUTES.map(({ family, length, dest }, index) => ({
              family,
              source_length: null,
              dest_length: length,
              routes: [
                {
                  key: `rk_${index}` as RouteKey,
                  number: index + 1,
                  service_id: SERVICE,
                  source_cidr: null,
                  dest_cidr: dest as Cidr,
                },
              ],
            }))
          : [],
      transparent_exit: false,
    },
    tproxy: {
      entries: [],
      exits:
        side === 'entry'
          ? []
          : [
              {
                service_id: SERVICE,
                name: 'lab',
                mark: MARK.service | 1,
                peer_id: ENTRY_PEER,
                transport_type: 'tcp',
                fully_transparent: false,
                bandwidth_limit_mbps: limitMbps,
                destinations: ROUTES.map(({ dest }) => ({ source_cidr: null, dest_cidr: dest as Cidr })),
              },
            ],
    },
  };
}

export const NOTHING_DESIRED: DesiredTunnels = {
  iptun: { peers: [] },
  firewall: { services: [], classes: [], transparent_exit: false },
  tproxy: { entries: [], exits: [] },
};

export interface ReconcilerLab {
  readonly spaces: Readonly<Record<'client' | 'entry' | 'exit' | 'server', Netns>>;
  readonly hosts: Record<'entry' | 'exit', EngineHost>;
  agree(): Promise<void>;
  /** One pass; answers the items that differed. */
  reconcile(
    side: 'entry' | 'exit',
    desired?: DesiredTunnels,
    firewallOwner?: boolean,
  ): Promise<readonly string[]>;
  restart(side: 'entry' | 'exit'): Promise<void>;
}

export async function makeReconcilerLab(t: Test): Promise<ReconcilerLab> {
  const [client, entry, exit, server] = await Promise.all([
    makeNetns('client'),
    makeNetns('entry'),
    makeNetns('exit'),
    makeNetns('server'),
  ]);
  const spaces = { client, entry, exit, server };
  await joinByVeth(
    { netns: client, name: 'uplink', addresses: ['10.71.1.2/24', 'fd71:1::2/64'] },
    { netns: entry, name: 'lan0', addresses: ['10.71.1.1/24', 'fd71:1::1/64'] },
  );
  await joinByVeth(
    { netns: entry, name: 'wan0', addresses: ['10.71.2.1/24', 'fd71:2::1/64'] },
    { netns: exit, name: 'wan0', addresses: ['10.71.2.2/24', 'fd71:2::2/64'] },
  );
  await joinByVeth(
    { netns: exit, name: 'lan0', addresses: ['10.71.3.1/24', 'fd71:3::1/64'] },
    { netns: server, name: 'uplink', addresses: ['10.71.3.2/24', 'fd71:3::2/64'] },
  );
  await client.exec('ip', 'route', 'add', 'default', 'via', '10.71.1.1');
  await client.exec('ip', '-6', 'route', 'add', 'default', 'via', 'fd71:1::1');
  // A way for the host's own packets to start on; nothing would come back along it.
  await entry.exec('ip', 'route', 'add', 'default', 'via', '10.71.2.2');
  await entry.exec('ip', '-6', 'route', 'add', 'default', 'via', 'fd71:2::2');
  const hosts = { entry: await startHost(entry), exit: await startHost(exit) };
  t.teardown(async () => {
    await Promise.all([hosts.entry.kill(), hosts.exit.kill()]);
    for (const netns of Object.values(spaces)) netns.remove();
  });
  const lab: ReconcilerLab = {
    spaces,
    hosts,
    async agree() {
      const secret = randomBytes(32).toString('hex');
      await hosts.entry.call({ verb: 'session', peerId: EXIT_PEER, secret, side: 'initiator' });
      await hosts.exit.call({ verb: 'session', peerId: ENTRY_PEER, secret, side: 'responder' });
    },
    reconcile: async (side, desired = desiredOf(side), firewallOwner = false) =>
      (await hosts[side].call({
        verb: 'reconcile',
        desired,
        endpoint: side === 'entry' ? EXIT.v4 : ENTRY.v4,
        firewallOwner,
      })) as readonly string[],
    async restart(side) {
      await hosts[side].kill();
      hosts[side] = await startHost(spaces[side]);
    },
  };
  return lab;
}
