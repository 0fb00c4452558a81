/** Whole tables replaced under a flood of datagrams: none of them leaves beside the tunnel. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import t, { type Test } from 'tap';
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
const SWAPS = 150;
const PER_SECOND = 60_000;
/** Such as a tunnel's own routing table. */
const TABLE = '99';

interface Family {
  readonly option: string;
  readonly dest: string;
  route(n: number): string;
  /** Datagrams that reached the host, wanted there or not. */
  arrived(netns: Netns): Promise<number>;
}

const FAMILIES: Readonly<Record<string, Family>> = {
  IPv4: {
    option: '-4',
    dest: '172.16.7.9',
    route: (n) => `172.${16 + (n >> 8)}.${n & 255}.0/24`,
    async arrived(netns) {
      const [names = [], values = []] = (await netns.exec('cat', '/proc/net/snmp'))
        .split('\n')
        .filter((line) => line.startsWith('Udp:'))
        .map((line) => line.split(' '));
      return ['InDatagrams', 'NoPorts'].reduce((sum, name) => sum + Number(values[names.indexOf(name)]), 0);
    },
  },
  IPv6: {
    option: '-6',
    dest: 'fd77:0:7::9',
    route: (n) => `fd77:0:${n.toString(16)}::/48`,
    async arrived(netns) {
      const text = await netns.exec('cat', '/proc/net/snmp6');
      return ['InDatagrams', 'NoPorts'].reduce(
        (sum, name) => sum + Number(new RegExp(`^Udp6${name}\\s+(\\d+)`, 'm').exec(text)?.[1]),
        0,
      );
    },
  },
};

async function checkSwaps(t: Test, origin: 'client' | 'router', family: Family): Promise<void> {
  const lab = await makeLab(t);
  const { router, server, kernel } = lab;
  const peer = { peer_id: 'peer_exit' as PeerId, mark: (MARK.tunnel | 1) >>> 0, services: [] };
  const routes = Array.from({ length: ROUTES }, (_, n) => ({
    service: 1,
    source: null,
    dest: family.route(n),
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
  const ip = (...args: string[]): Promise<string> => router.exec('ip', family.option, ...args);
  // Frames without neighbours are addressed to nobody at the other end, and end there.
  await ip('link', 'add', 'sink', 'type', 'veth', 'peer', 'name', 'drain');
  await ip('link', 'set', 'sink', 'arp', 'off', 'up');
  await ip('link', 'set', 'drain', 'up');
  await ip('rule', 'add', 'fwmark', `${peer.mark}/0xffffffff`, 'lookup', TABLE);
  await ip('route', 'add', 'default', 'dev', 'sink', 'table', TABLE);
  await kernel.nft.replaceTable(table);

  const tool = await compileTool('udptool');
  const flood = spawn(
    'ip',
    [...lab[origin].prefix, tool, 'flood', family.dest, '9', '100', '250', String(PER_SECOND)],
    { stdio: 'ignore' },
  );
  t.teardown(() => flood.kill('SIGKILL'));
  const taken = async (): Promise<number> =>
    Number(await router.exec('cat', '/sys/class/net/sink/statistics/tx_packets'));
  const before = await family.arrived(server);
  for (let n = 0; n < SWAPS; n += 1) await swapTable(kernel.nft, table, SECOND_LOOK, sleep);
  const many = await taken();
  flood.kill('SIGKILL');
  await once(flood, 'exit');
  await sleep(100);
  t.equal((await family.arrived(server)) - before, 0);
  t.ok(many > SWAPS * 100, `${many} went into the tunnel`);
}

for (const [name, family] of Object.entries(FAMILIES))
  for (const [whose, origin] of [
    ['a client', 'client'],
    ['this host', 'router'],
  ] as const)
    t.test(`a swap lets no datagram of ${whose} by, ${name}`, { timeout: 300_000 }, (t) =>
      checkSwaps(t, origin, family),
    );
