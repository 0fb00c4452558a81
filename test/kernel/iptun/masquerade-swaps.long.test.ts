/** Whole tables replaced while new flows come out of a tunnel: each leaves as this host's own. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import t, { type Test } from 'tap';
import type { PeerId } from '../../../events/brand.ts';
import { compileTool } from '../../../ops/lab/build-tools.ts';
import { MARK } from '../../../projections/desired/contract.ts';
import { deriveClasses } from '../../../projections/desired/firewall.ts';
import { createKernel } from '../../../src/kernel/kernel.ts';
import { RouteMaps, toSet } from '../../../src/reconcilers/firewall/route-maps.ts';
import { swapTable } from '../../../src/reconcilers/firewall/swap.ts';
import { deviceName } from '../../../src/reconcilers/iptun/desired.ts';
import { compileTunnelRuleset, SECOND_LOOK } from '../../../src/reconcilers/iptun/ruleset.ts';
import { joinByVeth, makeSpaces, mayMakeNamespaces, type Netns } from '../netns.ts';
import { desiredOf, routeViews } from '../reconcilers/lab.ts';

if (!mayMakeNamespaces()) t.bailout('these tests need root, to make network namespaces');

/** Enough for a commit to leave on the thread pool, so that packets meet it half way. */
const ROUTES = 3_000;
const SWAPS = 200;
const PER_SECOND = 60_000;

const FAMILIES = {
  IPv4: { dest: '10.2.0.2', own: 'ip saddr 10.2.0.1' },
  IPv6: { dest: 'fd02::2', own: 'ip6 saddr fd02::1' },
} as const;

async function checkSwaps(
  t: Test,
  { dest, own }: { readonly dest: string; readonly own: string },
): Promise<void> {
  const [entry, exit, server] = await makeSpaces(t, 'entry', 'exit', 'server');
  const mark = (MARK.tunnel | 1) >>> 0;
  // A wire of the tunnel device's name: to the table it is one.
  await joinByVeth(
    { netns: entry, name: 'uplink', addresses: ['10.1.0.2/24', 'fd01::2/64'] },
    { netns: exit, name: deviceName(mark), addresses: ['10.1.0.1/24', 'fd01::1/64'] },
  );
  await joinByVeth(
    { netns: exit, name: 'wan0', addresses: ['10.2.0.1/24', 'fd02::1/64'] },
    { netns: server, name: 'uplink', addresses: ['10.2.0.2/24', 'fd02::2/64'] },
  );
  await entry.exec('ip', 'route', 'add', 'default', 'via', '10.1.0.1');
  await entry.exec('ip', '-6', 'route', 'add', 'default', 'via', 'fd01::1');
  const kernel = createKernel({ netnsPath: exit.path });
  await kernel.start();
  t.teardown(() => kernel.stop());
  await kernel.sysctl.write('net.ipv4.ip_forward', '1');
  await kernel.sysctl.write('net.ipv6.conf.all.forwarding', '1');

  const routes = Array.from({ length: ROUTES }, (_, n) => ({
    service: 1,
    source: null,
    dest: `172.${16 + (n >> 8)}.${n & 255}.0/24`,
  }));
  const { services } = desiredOf(routes.slice(0, 1));
  const [service] = services;
  if (service === undefined) throw new Error('no service');
  const peer = {
    peer_id: 'peer_entry' as PeerId,
    mark,
    services: [{ service_id: service.service_id, bandwidth_limit_mbps: 0 }],
  };
  const desired = {
    iptun: { peers: [peer] },
    firewall: { services, transparent_exit: false, classes: deriveClasses([routeViews(routes)]) },
    tproxy: { entries: [], exits: [] },
  };
  const maps = new RouteMaps();
  maps.follow({ ...desired.firewall, services: [{ ...service, mark }] }, undefined);
  const frame = compileTunnelRuleset(desired, false);
  if (frame === undefined) throw new Error('no table');
  const table = { ...frame, sets: [...frame.sets, ...Array.from(maps.maps.values(), toSet)] };
  await kernel.nft.replaceTable(table);
  // Each datagram is a new flow: the one before is forgotten at once.
  await kernel.sysctl.write('net.netfilter.nf_conntrack_udp_timeout', '0');
  // A chain of this type sees the first packet of a flow only.
  await exit.exec(
    'nft',
    `add table inet flows; add counter inet flows new;
     add chain inet flows out { type nat hook postrouting priority 0; };
     add rule inet flows out meta l4proto udp counter name new`,
  );
  await server.exec(
    'nft',
    `add table inet seen; add chain inet seen in { type filter hook input priority 0; };
     add counter inet seen ours; add counter inet seen foreign;
     add rule inet seen in meta l4proto udp ${own} counter name ours drop;
     add rule inet seen in meta l4proto udp counter name foreign drop`,
  );
  const count = async (netns: Netns, table: string, name: string): Promise<number> =>
    Number(/packets (\d+)/.exec(await netns.exec('nft', 'list', 'counter', 'inet', table, name))?.[1]);
  const seen = (name: string): Promise<number> => count(server, 'seen', name);

  const tool = await compileTool('udptool');
  const flows = spawn('ip', [...entry.prefix, tool, 'flood', dest, '9', '100', '250', String(PER_SECOND)], {
    stdio: 'ignore',
  });
  t.teardown(() => flows.kill('SIGKILL'));
  for (let n = 0; n < 200 && (await seen('ours')) === 0; n += 1) await sleep(50);
  for (let n = 0; n < SWAPS; n += 1) await swapTable(kernel.nft, table, SECOND_LOOK, sleep);
  flows.kill('SIGKILL');
  await once(flows, 'exit');
  await sleep(100);
  t.equal(await seen('foreign'), 0, 'none leaves with the address of its own host');
  const flowsSeen = await count(exit, 'flows', 'new');
  const ours = await seen('ours');
  t.ok(ours > SWAPS * 100, `${ours} went on as this host's, of ${flowsSeen} flows`);
  t.ok(flowsSeen > SWAPS * 100);
}

for (const [name, family] of Object.entries(FAMILIES))
  t.test(`a swap lets no new flow out of a tunnel go on as its own, ${name}`, { timeout: 300_000 }, (t) =>
    checkSwaps(t, family),
  );
