import { isDeepStrictEqual } from 'node:util';
import type { PeerId } from '../../../events/brand.ts';
import type {
  TunnelConfig,
  TunnelDevice,
  TunnelEngine,
  TunnelPeer,
  TunnelPeerStats,
} from '../../engines/iptun/contract.ts';
import type { IpFamily, Kernel, NftSnapshot, NftTable } from '../../kernel/contract.ts';
import { canonicalTable } from '../../kernel/nft/canonical.ts';
import type { Difference, Plan, Reconciler, ServiceReconcileStatus } from '../contract.ts';
import { type DesiredTunnels, deviceName, type EndpointOf, toTunnelConfig } from './desired.ts';
import {
  differingParameters,
  neededParameters,
  type Parameter,
  type ParameterMemory,
  restoreParameters,
  setParameters,
} from './parameters.ts';
import {
  addTunnelRouting,
  deleteTunnelRouting,
  type ObservedTunnelRouting,
  observeTunnelRouting,
  planTunnelRouting,
} from './policy-routing.ts';
import { compileTunnelRuleset, TUNNEL_TABLE } from './ruleset.ts';
import { compareTunnelTable, type TunnelTableStep } from './table.ts';

export interface IptunDeps {
  readonly kernel: Pick<Kernel, 'nft' | 'rt' | 'sysctl' | 'features'>;
  readonly engine: Pick<TunnelEngine, 'configure' | 'configured' | 'devices' | 'stats'>;
  readonly desired: () => DesiredTunnels;
  /** Where a peer's tunnel listens; undefined while its address is not known. */
  readonly endpointOf: EndpointOf;
  readonly memory: ParameterMemory;
}

export interface ObservedIptun {
  readonly config: TunnelConfig;
  readonly devices: ReadonlyMap<string, TunnelDevice>;
  /** Links that are up, by index. */
  readonly links: ReadonlyMap<number, string>;
  readonly routing: ObservedTunnelRouting;
  readonly snapshot: NftSnapshot;
  readonly parameters: readonly Difference[];
  readonly families: readonly IpFamily[];
}

export interface IptunPlan extends Plan {
  readonly config: TunnelConfig;
  /** With the peers that are about to go: their devices outlast the rules that lead to them. */
  readonly meanwhile: TunnelConfig;
  readonly marks: readonly { readonly mark: number; readonly peerId: PeerId }[];
  readonly routing: ObservedTunnelRouting;
  readonly families: readonly IpFamily[];
  readonly table: TunnelTableStep;
  readonly generation: number;
}

/**
 * The tunnels' TUN devices with the engine behind them, `table inet arctic_iptun`, and the policy routing between the two.
 * A packet's mark, the number of the table it is looked up in and the name of the device are one and the same number.
 */
export function createIptunReconciler(deps: IptunDeps): Reconciler<DesiredTunnels, ObservedIptun, IptunPlan> {
  const { kernel, engine } = deps;
  let families: readonly IpFamily[] | undefined;
  let compiled: { readonly desired: DesiredTunnels; readonly table: NftTable | undefined } | undefined;
  let configured: { readonly desired: DesiredTunnels; readonly config: TunnelConfig } | undefined;
  /** Everything was in place at the end of the last pass. */
  let settled = false;

  /** The parts are each one object until they change. */
  const same = (a: DesiredTunnels, b: DesiredTunnels): boolean =>
    a.iptun === b.iptun && a.firewall === b.firewall && a.tproxy === b.tproxy;

  function tableFor(desired: DesiredTunnels): NftTable | undefined {
    if (compiled === undefined || !same(compiled.desired, desired)) {
      const table = compileTunnelRuleset(desired);
      compiled = { desired, table: table && canonicalTable(table) };
    }
    return compiled.table;
  }

  /** Endpoints are looked up anew; the policies, which may be long, stay one object while nothing changes. */
  function configFor(desired: DesiredTunnels): TunnelConfig {
    if (configured === undefined || !same(configured.desired, desired))
      configured = { desired, config: toTunnelConfig(desired, deps.endpointOf) };
    return {
      peers: configured.config.peers.map((peer) => ({
        ...peer,
        endpoint: deps.endpointOf(peer.peerId as PeerId),
      })),
    };
  }

  async function parametersFor(desired: DesiredTunnels): Promise<readonly Parameter[]> {
    if (desired.iptun.peers.length === 0) return [];
    const links = (await kernel.rt.links()).map((link) => link.name);
    return neededParameters(kernel, {
      ipv6: carriesIpv6(desired),
      devices: desired.iptun.peers.map((peer) => deviceName(peer.mark)),
      links,
    });
  }

  async function observe(): Promise<ObservedIptun> {
    families ??= (await kernel.features()).ipv6 ? ['ipv4', 'ipv6'] : ['ipv4'];
    const desired = deps.desired();
    const links = (await kernel.rt.links()).filter((link) => link.up);
    return {
      families,
      config: engine.configured(),
      devices: engine.devices(),
      links: new Map(links.map((link) => [link.index, link.name])),
      parameters: await differingParameters(kernel, await parametersFor(desired)),
      routing: await observeTunnelRouting(
        kernel,
        families,
        desired.iptun.peers.map((peer) => peer.mark),
      ),
      snapshot: await kernel.nft.readTable(TUNNEL_TABLE.family, TUNNEL_TABLE.name),
    };
  }

  return {
    name: 'iptun',
    desired: deps.desired,
    observe,

    plan(desired, observed) {
      const config = configFor(desired);
      const marks = desired.iptun.peers.map((peer) => ({ mark: peer.mark, peerId: peer.peer_id }));
      const held = (peerId: string): number | undefined => {
        const device = observed.devices.get(peerId);
        return device !== undefined && observed.links.get(device.index) === device.name
          ? device.index
          : undefined;
      };
      const differences = comparePeers(config, observed.config);
      for (const peer of config.peers)
        if (held(peer.peerId) === undefined)
          differences.push({ item: `device ${peer.device}`, desired: 'up', observed: null });
      const comparison = compareTunnelTable(tableFor(desired), observed.snapshot.table);
      const routing = planTunnelRouting(
        marks.map(({ mark, peerId }) => ({ mark, index: held(peerId) })),
        observed.families,
        observed.routing,
      );
      differences.push(...observed.parameters, ...routing.differences, ...comparison.differences);
      settled = differences.length === 0;
      const staying = new Set(config.peers.map((peer) => peer.peerId));
      return {
        differences,
        config,
        meanwhile: {
          peers: [...config.peers, ...observed.config.peers.filter((peer) => !staying.has(peer.peerId))],
        },
        marks,
        routing: observed.routing,
        families: observed.families,
        table: comparison.step,
        generation: observed.snapshot.generation,
      };
    },

    /** A mark never leads nowhere: device, route and rule come before the table that marks, and go after it. */
    async apply(plan) {
      await engine.configure(plan.meanwhile);
      await setParameters(kernel, await parametersFor(deps.desired()), deps.memory);
      const devices = engine.devices();
      const routing = planTunnelRouting(
        plan.marks.map(({ mark, peerId }) => ({ mark, index: devices.get(peerId)?.index })),
        plan.families,
        plan.routing,
      );
      await addTunnelRouting(kernel, routing);
      const lock = { generation: plan.generation };
      if (plan.table.kind === 'remove') await kernel.nft.deleteTable(TUNNEL_TABLE.family, TUNNEL_TABLE.name);
      else if (plan.table.kind === 'replace') await kernel.nft.replaceTable(plan.table.table, lock);
      else if (plan.table.kind === 'change')
        await kernel.nft.changeTable(plan.table.table, plan.table.changes, lock);
      await deleteTunnelRouting(kernel, routing);
      if (plan.meanwhile.peers.length > plan.config.peers.length) await engine.configure(plan.config);
      settled = true;
    },

    serviceStatus(service) {
      if (!settled) return undefined;
      const peer = deps
        .desired()
        .iptun.peers.find((one) => one.services.some(({ service_id }) => service_id === service));
      const stats = peer && engine.stats().peers.find((one) => one.peerId === (peer.peer_id as string));
      return stats && appliedStatus(stats);
    },

    /**
     * On shutdown the table and the rules stay: the devices go with the engine, and a mark whose table is empty is looked up
     * in the main table.
     */
    async cleanup(scope) {
      settled = false;
      if (scope === 'shutdown') return;
      await removeTunnels(deps);
      if (engine.configured().peers.length > 0) await engine.configure({ peers: [] });
    },
  };
}

/** Takes table, policy routing and kernel parameters of the tunnels away; for a host whose agent need not run any more. */
export async function removeTunnels(deps: {
  readonly kernel: Pick<Kernel, 'nft' | 'rt' | 'sysctl' | 'features'>;
  readonly memory: ParameterMemory;
}): Promise<void> {
  const { kernel, memory } = deps;
  const families: readonly IpFamily[] = (await kernel.features()).ipv6 ? ['ipv4', 'ipv6'] : ['ipv4'];
  await kernel.nft.deleteTable(TUNNEL_TABLE.family, TUNNEL_TABLE.name);
  const routing = planTunnelRouting([], families, await observeTunnelRouting(kernel, families, []));
  await deleteTunnelRouting(kernel, routing);
  await addTunnelRouting(kernel, routing);
  await restoreParameters(kernel, memory);
}

/** Applied, with how the tunnel stands: `handshake 12 s ago, 10.0.0.2:51840, 120 B out, 240 B in, 0 lost`. */
function appliedStatus(stats: TunnelPeerStats): ServiceReconcileStatus {
  const parts = [
    stats.handshakeAgeMs === null
      ? 'no handshake yet'
      : `handshake ${Math.round(stats.handshakeAgeMs / 1000)} s ago`,
    stats.endpoint ?? 'endpoint not known',
    `${stats.sent.bytes} B out`,
    `${stats.received.bytes} B in`,
    `${stats.lost} lost`,
  ];
  return { state: 'applied', reason: parts.join(', ') };
}

function comparePeers(desired: TunnelConfig, observed: TunnelConfig): Difference[] {
  const differences: Difference[] = [];
  const held = new Map(observed.peers.map((peer) => [peer.peerId, peer]));
  for (const peer of desired.peers) {
    const other = held.get(peer.peerId);
    held.delete(peer.peerId);
    if (other !== undefined && isDeepStrictEqual(peer, other)) continue;
    differences.push({
      item: `tunnel to ${peer.peerId}`,
      desired: describePeer(peer),
      observed: other === undefined ? null : describePeer(other),
    });
  }
  for (const peer of held.values())
    differences.push({ item: `tunnel to ${peer.peerId}`, desired: null, observed: describePeer(peer) });
  return differences;
}

function describePeer({ device, endpoint, policy, limits }: TunnelPeer): string {
  const routes = [...policy.entries.classes, ...policy.exits.classes].reduce(
    (sum, one) => sum + one.routes.length,
    0,
  );
  const where = endpoint === undefined ? 'address not known' : `${endpoint.host} port ${endpoint.port}`;
  return [
    `${device} to ${where}`,
    `${routes} routes`,
    ...limits.map(({ serviceId, bitsPerSecond }) => `${serviceId} limited to ${bitsPerSecond} bit/s`),
  ].join(', ');
}

/** Whether any service may carry IPv6; one with an interface of its own carries whatever arrives there. */
const carriesIpv6 = ({ firewall, tproxy }: DesiredTunnels): boolean =>
  firewall.classes.some((one) => one.family === 'ipv6') ||
  firewall.services.some((service) => service.interface_name !== null) ||
  tproxy.exits.some((exit) =>
    exit.destinations.some(({ source_cidr, dest_cidr }) => {
      const cidr = source_cidr ?? dest_cidr;
      return cidr === null || cidr.includes(':');
    }),
  );
