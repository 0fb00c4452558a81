import { hash } from 'node:crypto';
import { isDeepStrictEqual } from 'node:util';
import type { PeerId, ServiceId } from '../../events/brand.ts';
import type { DesiredTproxy, DesiredTproxyService } from '../../projections/desired/contract.ts';
import type {
  TproxyConfig,
  TproxyEngine,
  TproxyExit,
  TproxyPeer,
  TproxyService,
} from '../engines/tproxy/contract.ts';
import type { Difference, Plan, Reconciler } from './contract.ts';

export interface TproxyDeps {
  readonly engine: Pick<TproxyEngine, 'configure' | 'configured'>;
  readonly desired: () => DesiredTproxy;
  /** Where a peer's carriers listen; undefined while its address is not known. */
  readonly endpointOf: (peer: PeerId) => { readonly host: string; readonly port: number } | undefined;
}

export interface TproxyPlan extends Plan {
  readonly config: TproxyConfig;
  /** Services whose peer has no known address. */
  readonly problems: readonly { readonly service_id: ServiceId; readonly reason: string }[];
}

/** Configures the TCP engine. Its configuration is replaced at once; flows of services that remain go on. */
export const createTproxyReconciler = (
  deps: TproxyDeps,
): Reconciler<DesiredTproxy, TproxyConfig, TproxyPlan> & {
  /** SHA-256 of what the engine should hold: the desired state together with where the peers are. */
  digest(): string;
} => ({
  name: 'tproxy',
  desired: deps.desired,
  observe: async () => deps.engine.configured(),
  plan(desired, observed) {
    const { config, unknown } = toConfig(desired, deps.endpointOf);
    return {
      config,
      differences: [
        ...compareLists('entry', config.entries, observed.entries, (one) => one.serviceId, describeService),
        ...compareLists('exit', config.exits, observed.exits, (one) => one.serviceId, describeExit),
        ...compareLists('peer', config.peers, observed.peers, (one) => one.peerId, describePeer),
      ],
      problems: [...desired.entries, ...desired.exits]
        .filter((service) => unknown.has(service.peer_id))
        .map((service) => ({
          service_id: service.service_id,
          reason: `the address of ${service.peer_id} is not known`,
        })),
    };
  },
  digest: () => hash('sha256', JSON.stringify(toConfig(deps.desired(), deps.endpointOf).config), 'hex'),
  apply: async (plan) => deps.engine.configure(plan.config),
  cleanup: async () => deps.engine.configure({ entries: [], exits: [], peers: [] }),
});

/** What the engine is told. Megabits become bits: 10^6, as for every link speed. */
export function toConfig(
  desired: DesiredTproxy,
  endpointOf: TproxyDeps['endpointOf'],
): { readonly config: TproxyConfig; readonly unknown: ReadonlySet<PeerId> } {
  const peers: TproxyPeer[] = [];
  const unknown = new Set<PeerId>();
  const ids = new Set([...desired.entries, ...desired.exits].map((service) => service.peer_id));
  for (const peerId of [...ids].sort()) {
    const endpoint = endpointOf(peerId);
    if (endpoint) peers.push({ peerId, host: endpoint.host, port: endpoint.port });
    else unknown.add(peerId);
  }
  return {
    unknown,
    config: {
      entries: desired.entries.map(toService),
      exits: desired.exits.map((exit) => ({
        ...toService(exit),
        allowed: exit.destinations.map(({ source_cidr, dest_cidr }) => ({
          source: source_cidr,
          destination: dest_cidr,
        })),
      })),
      peers,
    },
  };
}

const toService = (service: DesiredTproxyService): TproxyService => ({
  serviceId: service.service_id,
  name: service.name,
  mark: service.mark,
  peerId: service.peer_id,
  transport: service.transport_type,
  fullyTransparent: service.fully_transparent,
  limitBitsPerSecond: Math.round(service.bandwidth_limit_mbps * 1e6),
});

function compareLists<T>(
  what: string,
  desired: readonly T[],
  observed: readonly T[],
  idOf: (one: T) => string,
  describe: (one: T) => string,
): readonly Difference[] {
  const differences: Difference[] = [];
  const held = new Map(observed.map((one) => [idOf(one), one]));
  const service = (id: string): { service_id?: ServiceId } =>
    what === 'peer' ? {} : { service_id: id as ServiceId };
  for (const one of desired) {
    const id = idOf(one);
    const other = held.get(id);
    held.delete(id);
    if (other !== undefined && isDeepStrictEqual(one, other)) continue;
    differences.push({
      item: `${what} ${id}`,
      desired: describe(one),
      observed: other === undefined ? null : describe(other),
      ...service(id),
    });
  }
  for (const [id, other] of held)
    differences.push({ item: `${what} ${id}`, desired: null, observed: describe(other), ...service(id) });
  return differences;
}

const describeService = (one: TproxyService): string =>
  [
    `${one.name} with ${one.peerId} over ${one.transport}`,
    `mark 0x${one.mark.toString(16)}`,
    one.fullyTransparent ? 'transparent' : '',
    one.limitBitsPerSecond > 0 ? `limit ${one.limitBitsPerSecond} bit/s` : '',
  ]
    .filter((part) => part !== '')
    .join(', ');
const describeExit = (one: TproxyExit): string =>
  `${describeService(one)}, ${one.allowed.length} destinations`;
const describePeer = (one: TproxyPeer): string => `${one.host}:${one.port}`;
