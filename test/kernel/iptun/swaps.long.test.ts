/** Whole tables replaced under a flood of datagrams: none of them leaves beside the tunnel. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import type { PeerId } from '../../../events/brand.ts';
import { compileTool } from '../../../ops/lab/build-tools.ts';
import { MARK } from '../../../projections/desired/contract.ts';
import { deriveClasses } from '../../../projections/desired/firewall.ts';
import { RouteMaps, toSet } from '../../../src/reconcilers/firewall/route-maps.ts';
import { swapTable } from '../../../src/reconcilers/firewall/swap.ts';
import { compileTunnelRuleset, SECOND_LOOK } from '../../../src/reconcilers/iptun/ruleset.ts';
import { mayMakeNamespaces, type Netns } from '../netns.ts';
import { desiredOf, makeLab, routeViews } from '../reconcilers/lab.ts';

if (!mayMakeNamespaces()) t.bailout('these tests need root, to make network namespaces');

/** Enough for a commit to leave on the thread pool, so that packets meet it half way. */
const ROUTES = 3_000;
const SWAPS = 300;
const PER_SECOND = 60_000;
/** Such as a tunnel's own routing table, but what comes there is gone. */
const TABLE = '99';

/** Datagrams that reached the host, wanted there or not. */
async function arrived(netns: Netns): Promise<number> {
  const [names = [], values = []] = (await netns.exec('cat', '/proc/net/snmp'))
    .split('\n')
    .filter((line) => line.startsWith('Udp:'))
    .map((line) => line.split(' '));
  return ['InDatagrams', 'NoPorts'].reduce((sum, name) => sum + Number(values[names.indexOf(name)]), 0);
}

t.test('a swap lets no datagram by', { timeout: 300_000 }, async (t) => {
  const { client, router, server, kernel } = await makeLab(t);
  const peer = { peer_id: 'peer_exit' as PeerId, mark: (MARK.tunnel | 1) >>> 0, services: [] };
  const routes = Array.from({ length: ROUTES }, (_, n) => ({
    service: 1,
    source: null,
    dest: `172.${16 + (n >> 8)}.${n & 255}.0/24`,
  }));
  const { services } = desiredOf(routes.slice(0, 1));
  const [service] = services;
  if (service === undefined) throw new Error('no service');
  const desired = {
    iptun: { peers: [{ ...peer, services: [{ service_id: service.service_id, bandwidth_limit_mbps: 0 }] }] },
    firewall: { services, transparent_exit: false, classes: deriveClasses([routeViews(routes)]) },
    tproxy: { entries: [], exits: [] },
  };
  const maps = new RouteMaps();
  maps.follow({ ...desired.firewall, services: [{ ...service, mark: peer.mark }] }, undefined);
  const frame = compileTunnelRuleset(desired, false);
  if (frame === undefined) throw new Error('no table');
  const table = { ...frame, sets: [...frame.sets, ...Array.from(maps.maps.values(), toSet)] };
  await router.exec('ip', 'rule', 'add', 'fwmark', `${peer.mark}/0xffffffff`, 'lookup', TABLE);
  await router.exec('ip', 'route', 'add', 'blackhole', 'default', 'table', TABLE);
  await kernel.nft.replaceTable(table);

  const tool = await compileTool('udptool');
  const flood = spawn(
    'ip',
    [...client.prefix, tool, 'flood', '172.16.7.9', '9', '100', '250', String(PER_SECOND)],
    { stdio: 'ignore' },
  );
  t.teardown(() => flood.kill('SIGKILL'));
  const sent = async (): Promise<number> =>
    Number(await client.exec('cat', '/sys/class/net/uplink/statistics/tx_packets'));
  const before = await arrived(server);
  for (let n = 0; n < SWAPS; n += 1) await swapTable(kernel.nft, table, SECOND_LOOK, sleep);
  flood.kill('SIGKILL');
  await once(flood, 'exit');
  await sleep(100);
  t.equal((await arrived(server)) - before, 0);
  t.ok((await sent()) > SWAPS * 100, 'and there were many');
});
