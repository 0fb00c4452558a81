import { isDeepStrictEqual } from 'node:util';
import type { PeerId } from '../../../events/brand.ts';
import type { RouteChanges } from '../../../projections/desired/contract.ts';
import type {
  TunnelConfig,
  TunnelDevice,
  TunnelEngine,
  TunnelPeer,
  TunnelPeerStats,
} from '../../engines/iptun/contract.ts';
import type { IpFamily, Kernel, NftComparison } from '../../kernel/contract.ts';
import type { Difference, ObserveScope, Plan, Reconciler, ServiceReconcileStatus } from '../contract.ts';
import {
  compareTables,
  type ElementNames,
  elementNames,
  type HeldTable,
  heldOf,
  heldSince,
  type TableComparison,
  type TableStep,
} from '../firewall/difference.ts';
import { explainRefusal } from '../firewall/refusal.ts';
import { type MapChanges, NOTHING } from '../firewall/route-maps.ts';
import { canonicalFrame, type TableFrame } from '../firewall/ruleset.ts';
import { swapTable } from '../firewall/swap.ts';
import { type DesiredTunnels, deviceName, type EndpointOf } from './desired.ts';
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
import { compileTunnelRuleset, SECOND_LOOK, TUNNEL_TABLE } from './ruleset.ts';
import { TunnelRoutes } from './tunnel-routes.ts';

export interface IptunDeps {
  readonly kernel: Pick<Kernel, 'nft' | 'rt' | 'sysctl' | 'features'>;
  readonly engine: Pick<TunnelEngine, 'configure' | 'configured' | 'devices' | 'stats'>;
  readonly desired: () => DesiredTunnels;
  /** How the firewall's classes came to be what they are; without it everything is compared at each change. */
  readonly changes?: (since: number) => RouteChanges;
  /** What people call a service or a peer. */
  readonly nameOf?: (id: string) => string;
  /** Where a peer's tunnel listens; undefined while its address is not known. */
  readonly endpointOf: EndpointOf;
  readonly memory: ParameterMemory;
  /** Claim the owner flag for the table where the kernel has it. */
  readonly firewallOwner?: boolean;
  /** Waits that many milliseconds. */
  readonly pause: (ms: number) => Promise<void>;
}

export interface ObservedIptun {
  readonly config: TunnelConfig;
  readonly devices: ReadonlyMap<string, TunnelDevice>;
  /** Links that are up, by index. */
  readonly links: ReadonlyMap<number, string>;
  readonly routing: ObservedTunnelRouting;
  /** `as-applied`: nobody can have changed what the last pass left. */
  readonly table: NftComparison | 'as-applied';
  readonly parameters: readonly Difference[];
  readonly families: readonly IpFamily[];
}

export interface IptunPlan extends Plan {
  readonly config: TunnelConfig;
  /** With the peers that are about to go: their devices outlast the rules that lead to them. */
  readonly meanwhile: TunnelConfig;
  readonly marks: readonly { readonly mark: number; readonly peerId: PeerId }[];
  /** Undefined: as the last pass left it. */
  readonly routing: ObservedTunnelRouting | undefined;
  readonly families: readonly IpFamily[];
  readonly table: TableStep;
  readonly generation: number;
  /** What stands in the kernel when this has been applied. */
  readonly frame: TableFrame | undefined;
}

/** What the last pass left in place. */
interface Applied {
  readonly generation: number;
  readonly frame: TableFrame | undefined;
  readonly iptun: DesiredTunnels['iptun'];
  readonly ipv6: boolean;
}

/**
 * The tunnels' TUN devices with the engine behind them, `table inet arctic_iptun`, and the policy routing between the two.
 * A packet's mark, the number of the table it is looked up in and the name of the device are one and the same number.
 */
export function createIptunReconciler(deps: IptunDeps): Reconciler<DesiredTunnels, ObservedIptun, IptunPlan> {
  const { kernel, engine, pause } = deps;
  const routes = new TunnelRoutes(deps.desired, deps.changes);
  let families: readonly IpFamily[] | undefined;
  let owned = false;
  let compiled: { readonly key: string; readonly frame: TableFrame | undefined } | undefined;
  /** Everything was in place at the end of the last pass. */
  let settled = false;
  let applied: Applied | undefined;

  /** The table without its maps; one object while the classes of routes, the services and the peers stay. */
  function frameFor(desired: DesiredTunnels): TableFrame | undefined {
    const { firewall, iptun } = desired;
    const heads = firewall.classes.map((one) => [one.family, one.source_length, one.dest_length]);
    const key = JSON.stringify([owned, iptun.peers, firewall.services, heads]);
    if (compiled?.key !== key) {
      const frame = compileTunnelRuleset(desired, owned);
      compiled = { key, frame: frame && canonicalFrame(frame) };
    }
    return compiled.frame;
  }

  function compareTable(
    desired: DesiredTunnels,
    held: HeldTable | undefined,
    since = NOTHING,
  ): TableComparison {
    return compareTables(frameFor(desired), held, TUNNEL_TABLE, routes.maps, since, namesOf(desired));
  }

  const namesOf = (desired: DesiredTunnels): ElementNames =>
    elementNames(
      desired.iptun.peers.map(({ peer_id, mark }) => ({ service_id: peer_id, mark })),
      deps.nameOf ?? ((id) => id),
    );

  async function parametersFor(desired: DesiredTunnels): Promise<readonly Parameter[]> {
    if (desired.iptun.peers.length === 0) return [];
    const links = (await kernel.rt.links()).map((link) => link.name);
    return neededParameters(kernel, {
      ipv6: carriesIpv6(desired),
      devices: desired.iptun.peers.map((peer) => deviceName(peer.mark)),
      links,
    });
  }

  async function probe(): Promise<readonly IpFamily[]> {
    const { ipv6, nftOwner } = await kernel.features();
    owned = deps.firewallOwner === true && nftOwner;
    return ipv6 ? ['ipv4', 'ipv6'] : ['ipv4'];
  }

  async function observe(scope: ObserveScope = 'full'): Promise<ObservedIptun> {
    families ??= await probe();
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
      table: await observeTable(scope),
    };
  }

  async function observeTable(scope: ObserveScope): Promise<NftComparison | 'as-applied'> {
    if (scope === 'notice' && applied && (await kernel.nft.isOursSince(applied.generation)))
      return 'as-applied';
    await routes.prepare();
    // What the maps were does not matter any more: the kernel is compared with what they are.
    applied = undefined;
    return kernel.nft.compareTable(TUNNEL_TABLE.family, TUNNEL_TABLE.name, routes.maps.maps);
  }

  function heldTable(
    seen: ObservedIptun['table'],
    since: MapChanges,
  ): { readonly held: HeldTable | undefined; readonly generation: number } {
    if (seen !== 'as-applied') {
      const { table, deviations, generation } = seen;
      return { held: table && heldOf(table, deviations, routes.maps), generation };
    }
    // A change planned meanwhile forgets what was applied: then the table is written anew.
    const frame = applied?.frame;
    return { held: frame && heldSince(frame, routes.maps, since), generation: applied?.generation ?? 0 };
  }

  async function applyTable(plan: IptunPlan): Promise<number> {
    try {
      return await commit(plan);
    } catch (error) {
      throw explainRefusal(error, routes.maps, namesOf(deps.desired()));
    }
  }

  async function commit({ table, generation }: IptunPlan): Promise<number> {
    const lock = { generation };
    switch (table.kind) {
      case 'none':
        return generation;
      case 'remove':
        return (await kernel.nft.deleteTable(TUNNEL_TABLE.family, TUNNEL_TABLE.name)).generation;
      case 'replace':
        return table.over
          ? (await swapTable(kernel.nft, table.table, SECOND_LOOK, pause, lock)).generation
          : (await kernel.nft.replaceTable(table.table, lock)).generation;
      case 'change':
        return (await kernel.nft.changeTable(table.table, table.changes, lock)).generation;
    }
  }

  /** The peers and their configuration, and how it differs from what the engine has. */
  function planPeers(observed: TunnelConfig) {
    const config = routes.config(deps.endpointOf);
    const staying = new Set(config.peers.map((peer) => peer.peerId));
    return {
      config,
      differences: comparePeers(config, observed),
      meanwhile: {
        peers: [...config.peers, ...observed.peers.filter((peer) => !staying.has(peer.peerId))],
      },
    };
  }

  const appliedBy = (desired: DesiredTunnels, plan: Pick<IptunPlan, 'generation' | 'frame'>): Applied => ({
    generation: plan.generation,
    frame: plan.frame,
    iptun: desired.iptun,
    ipv6: carriesIpv6(desired),
  });

  return {
    name: 'iptun',
    desired: deps.desired,
    observe,

    plan(desired, observed) {
      const since = routes.follow();
      const { config, differences, meanwhile } = planPeers(observed.config);
      const marks = desired.iptun.peers.map((peer) => ({ mark: peer.mark, peerId: peer.peer_id }));
      const held = (peerId: string): number | undefined => {
        const device = observed.devices.get(peerId);
        return device !== undefined && observed.links.get(device.index) === device.name
          ? device.index
          : undefined;
      };
      for (const peer of config.peers)
        if (held(peer.peerId) === undefined)
          differences.push({ item: `device ${peer.device}`, desired: 'up', observed: null });
      const { held: inKernel, generation } = heldTable(observed.table, since);
      const comparison = compareTable(desired, inKernel, since);
      const routing = planTunnelRouting(
        marks.map(({ mark, peerId }) => ({ mark, index: held(peerId) })),
        observed.families,
        observed.routing,
      );
      differences.push(...observed.parameters, ...routing.differences, ...comparison.differences);
      settled = differences.length === 0;
      const frame = frameFor(desired);
      applied = settled ? appliedBy(desired, { generation, frame }) : undefined;
      return {
        differences,
        config,
        meanwhile,
        marks,
        routing: observed.routing,
        families: observed.families,
        table: comparison.step,
        generation,
        frame,
      };
    },

    /** Routes and addresses of peers come and go without a look at the kernel; peers themselves do not. */
    change(desired) {
      const before = applied;
      if (before === undefined || before.iptun !== desired.iptun || before.ipv6 !== carriesIpv6(desired))
        return undefined;
      if (routes.isBehind) return undefined;
      const since = routes.follow();
      const { config, differences, meanwhile } = planPeers(engine.configured());
      const held = before.frame && heldSince(before.frame, routes.maps, since);
      const comparison = compareTable(desired, held, since);
      differences.push(...comparison.differences);
      settled = differences.length === 0;
      const frame = frameFor(desired);
      applied = settled ? before : undefined;
      return {
        differences,
        config,
        meanwhile,
        marks: [],
        routing: undefined,
        families: [],
        table: comparison.step,
        generation: before.generation,
        frame,
      };
    },

    /** A mark never leads nowhere: device, route and rule come before the table that marks, and go after it. */
    async apply(plan) {
      const desired = deps.desired();
      await engine.configure(plan.meanwhile);
      if (plan.routing === undefined) {
        const generation = await applyTable(plan);
        applied = appliedBy(desired, { generation, frame: plan.frame });
        settled = true;
        return;
      }
      await setParameters(kernel, await parametersFor(desired), deps.memory);
      const devices = engine.devices();
      const routing = planTunnelRouting(
        plan.marks.map(({ mark, peerId }) => ({ mark, index: devices.get(peerId)?.index })),
        plan.families,
        plan.routing,
      );
      await addTunnelRouting(kernel, routing);
      const generation = await applyTable(plan);
      await deleteTunnelRouting(kernel, routing);
      if (plan.meanwhile.peers.length > plan.config.peers.length) await engine.configure(plan.config);
      applied = appliedBy(desired, { generation, frame: plan.frame });
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
     * On shutdown the rules stay, and the table unless it is owned: the devices go with the engine, and a mark whose table is
     * empty is looked up in the main table.
     */
    async cleanup(scope) {
      settled = false;
      applied = undefined;
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
