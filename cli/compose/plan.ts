import { EXIT } from '../../events/errors.ts';
import { Failure } from '../failure.ts';
import type { ClusterState, MemberState, RouteState, ServiceState } from './cluster-state.ts';
import {
  type PeerSpec,
  type RouteSpec,
  routeKey,
  SERVICE_FIELDS,
  type ServiceField,
  type ServiceSpec,
} from './spec.ts';

/** What the agent at a peer's address said when it was asked who it is. */
export type Contact =
  | { readonly kind: 'bare' }
  | { readonly kind: 'bootstrapped'; readonly peerId: string; readonly clusterId: string }
  | { readonly kind: 'unreachable'; readonly reason: string };

export type Value = string | number | boolean | null;

export interface FieldChange<Field extends string = string> {
  readonly field: Field;
  /** As the file spells it. */
  readonly label: string;
  readonly before: Value;
  readonly after: Value;
}

export type PeerField = 'name' | 'address' | 'api_access';

export interface AddPeer {
  readonly kind: 'peer';
  readonly action: 'add';
  readonly name: string;
  readonly peer: PeerSpec;
  readonly contact: Contact;
}

export interface ChangePeer {
  readonly kind: 'peer';
  readonly action: 'change';
  readonly name: string;
  readonly member: MemberState;
  readonly fields: readonly FieldChange<PeerField>[];
}

export interface RouteChanges {
  readonly added: readonly RouteSpec[];
  /** Same traffic, another priority: the route keeps its id and age. */
  readonly changed: readonly { readonly before: RouteState; readonly after: RouteSpec }[];
  readonly removed: readonly RouteState[];
}

export interface AddService {
  readonly kind: 'service';
  readonly action: 'add';
  readonly name: string;
  readonly service: ServiceSpec;
}

export interface ChangeService {
  readonly kind: 'service';
  readonly action: 'change';
  readonly name: string;
  readonly before: ServiceState;
  readonly after: ServiceSpec;
  readonly fields: readonly FieldChange<ServiceField>[];
  readonly routes: RouteChanges;
}

export interface RemoveService {
  readonly kind: 'service';
  readonly action: 'remove';
  readonly name: string;
  readonly service: ServiceState;
}

export type Change = AddPeer | ChangePeer | AddService | ChangeService | RemoveService;

export interface Plan {
  readonly changes: readonly Change[];
  /** What a person should know before saying yes; errors with --strict. */
  readonly warnings: readonly string[];
}

/** A peer of the wanted state; a past state names its peers by id. */
export interface WantedPeer extends PeerSpec {
  readonly id?: string;
}

/** A service of the wanted state; one from the past is the one with its id where that still lives. */
export interface WantedService extends ServiceSpec {
  readonly id?: string;
}

export interface PlanRequest {
  readonly peers: readonly WantedPeer[];
  readonly services: readonly WantedService[];
  readonly state: ClusterState;
  /** By name of the peer in the file. */
  readonly contacts: ReadonlyMap<string, Contact>;
  /** Whether a service that is not wanted is to go. */
  readonly removable: (service: ServiceState) => boolean;
}

const PEER_FIELDS: readonly PeerField[] = ['name', 'address', 'api_access'];

/**
 * What it takes to make a cluster equal to what is wanted. Pure, and the only place that compares: `diff`, `apply` and
 * `rollback` show and carry out the same plan. Peers are added and changed, never removed.
 * @throws Failure when names do not tell things of the cluster apart
 */
export function planChanges(request: PlanRequest): Plan {
  const { peers, services, state } = request;
  const members = matchMembers(request);
  const peerChanges = peers.flatMap((peer) => planPeer(peer, members.get(peer.name), request.contacts));
  // A peer that gets another name is the same peer to the services that have it.
  const renamed = new Map(
    [...members].flatMap(([name, member]) => (name === member.name ? [] : [[member.name, name] as const])),
  );
  const current = state.services.map((service) => ({
    ...service,
    source_peer: renamed.get(service.source_peer) ?? service.source_peer,
    target_peer: renamed.get(service.target_peer) ?? service.target_peer,
  }));
  const matched = matchServices(services, current);
  const kept = new Set([...matched.values()].map(({ id }) => id));
  const extra = current.filter(({ id }) => !kept.has(id));
  const removed = extra.filter(request.removable);
  const serviceChanges = services.flatMap((service) => planService(service, matched.get(service)));
  return {
    changes: [
      ...peerChanges,
      ...serviceChanges,
      ...removed.map(
        (service): Change => ({ kind: 'service', action: 'remove', name: service.name, service }),
      ),
    ],
    warnings: [
      ...mergeWarnings(peerChanges, request),
      ...loopbackWarnings(peerChanges, request),
      ...strangers(peers, members, state),
      ...leftAlone(extra.filter((service) => !request.removable(service))),
    ],
  };
}

const quoted = (names: readonly string[]): string => names.map((name) => `'${name}'`).join(', ');

/** The member a peer of the file is: by id, by the agent that answers at its address, by name, by address. */
function matchMembers(request: PlanRequest): ReadonlyMap<string, MemberState> {
  const { members } = request.state;
  const matched = new Map<string, MemberState>();
  const holders = new Map<string, string>();
  for (const peer of request.peers) {
    const contact = request.contacts.get(peer.name);
    const answering = contact?.kind === 'bootstrapped' ? contact.peerId : undefined;
    const named = members.filter(({ name }) => name === peer.name);
    if (named.length > 1)
      throw new Failure(
        EXIT.general,
        `${named.length} peers of the cluster have the name '${peer.name}' (${named.map(({ id }) => id).join(', ')}); ` +
          'give one another with: arctic peers update ID --name NAME',
      );
    const member =
      members.find(({ id }) => id === (peer.id ?? answering)) ??
      named[0] ??
      members.find(({ address }) => address.toLowerCase() === peer.address.toLowerCase());
    if (member === undefined) continue;
    const other = holders.get(member.id);
    if (other !== undefined)
      throw new Failure(
        EXIT.configuration,
        `the peers '${other}' and '${peer.name}' of the file are one and the same member of the cluster ` +
          `(${member.name}, ${member.address}); check their addresses.`,
      );
    holders.set(member.id, peer.name);
    matched.set(peer.name, member);
  }
  return matched;
}

function planPeer(
  peer: WantedPeer,
  member: MemberState | undefined,
  contacts: ReadonlyMap<string, Contact>,
): readonly (AddPeer | ChangePeer)[] {
  if (member === undefined) {
    const contact = contacts.get(peer.name) ?? { kind: 'unreachable', reason: 'it was not asked' };
    return [{ kind: 'peer', action: 'add', name: peer.name, peer, contact }];
  }
  const fields = PEER_FIELDS.flatMap((field): readonly FieldChange<PeerField>[] =>
    member[field] === peer[field] ? [] : [{ field, label: field, before: member[field], after: peer[field] }],
  );
  return fields.length === 0 ? [] : [{ kind: 'peer', action: 'change', name: member.name, member, fields }];
}

/** By id where one is given and still there, else by name. */
function matchServices<W extends WantedService, S extends ServiceState>(
  wanted: readonly W[],
  current: readonly S[],
): ReadonlyMap<W, S> {
  const matched = new Map<W, S>();
  const taken = new Set<string>();
  for (const service of wanted) {
    const own = current.find(({ id }) => id === service.id);
    if (own === undefined) continue;
    matched.set(service, own);
    taken.add(own.id);
  }
  for (const service of wanted) {
    if (matched.has(service)) continue;
    const named = current.filter(({ id, name }) => name === service.name && !taken.has(id));
    if (named.length > 1)
      throw new Failure(
        EXIT.general,
        `${named.length} services of the cluster have the name '${service.name}' (${named.map(({ id }) => id).join(', ')}); ` +
          'give one another with: arctic services update ID --name NAME',
      );
    const [only] = named;
    if (only === undefined) continue;
    matched.set(service, only);
    taken.add(only.id);
  }
  return matched;
}

function planService(service: WantedService, before: ServiceState | undefined): readonly Change[] {
  if (before === undefined) return [{ kind: 'service', action: 'add', name: service.name, service }];
  const fields = SERVICE_FIELDS.flatMap(({ field, label }): readonly FieldChange<ServiceField>[] =>
    before[field] === service[field] ? [] : [{ field, label, before: before[field], after: service[field] }],
  );
  const routes = planRoutes(service.routes, before.routes);
  const same = routes.added.length + routes.changed.length + routes.removed.length === 0;
  if (fields.length === 0 && same) return [];
  return [{ kind: 'service', action: 'change', name: before.name, before, after: service, fields, routes }];
}

const trafficOf = (route: RouteSpec): string => `${route.source_cidr} ${route.dest_cidr}`;

/** Routes are compared as a set. One that only changed its priority is changed, so that it keeps its place among equals. */
function planRoutes(wanted: readonly RouteSpec[], current: readonly RouteState[]): RouteChanges {
  const wantedKeys = new Set(wanted.map(routeKey));
  const currentKeys = new Set(current.map(routeKey));
  const spare = new Map<string, RouteState[]>();
  for (const route of current) {
    if (wantedKeys.has(routeKey(route))) continue;
    const traffic = trafficOf(route);
    spare.set(traffic, [...(spare.get(traffic) ?? []), route]);
  }
  const added: RouteSpec[] = [];
  const changed: { before: RouteState; after: RouteSpec }[] = [];
  for (const route of wanted) {
    if (currentKeys.has(routeKey(route))) continue;
    const before = spare.get(trafficOf(route))?.shift();
    if (before === undefined) added.push(route);
    else changed.push({ before, after: route });
  }
  return { added, changed, removed: [...spare.values()].flat() };
}

/** Addresses that lead every host to itself. */
const LOOPBACK = /^(localhost|127\.[0-9.]+|\[::1\]|0\.0\.0\.0|\[::\]):/i;

function loopbackWarnings(
  changes: readonly (AddPeer | ChangePeer)[],
  { peers }: PlanRequest,
): readonly string[] {
  if (peers.length < 2) return [];
  return changes.flatMap((change) => {
    const address =
      change.action === 'add'
        ? change.peer.address
        : String(change.fields.find(({ field }) => field === 'address')?.after ?? '');
    return LOOPBACK.test(address)
      ? [
          `${address} leads every host to itself, so peers on other hosts will not find '${change.name}' there`,
        ]
      : [];
  });
}

function mergeWarnings(changes: readonly Change[], { state }: PlanRequest): readonly string[] {
  if (state.members.length === 0) return [];
  return changes.flatMap((change) =>
    change.kind === 'peer' && change.action === 'add' && change.contact.kind === 'bootstrapped'
      ? [
          `peer '${change.name}' (${change.peer.address}) is bootstrapped already, in ${change.contact.clusterId}; ` +
            'joining it merges everything that cluster has into this one',
        ]
      : [],
  );
}

function strangers(
  peers: readonly PeerSpec[],
  members: ReadonlyMap<string, MemberState>,
  state: ClusterState,
): readonly string[] {
  const known = new Set(peers.map(({ name }) => members.get(name)?.id));
  const others = state.members.filter(({ id }) => !known.has(id)).map(({ name }) => name);
  if (others.length === 0) return [];
  const [what, are] = others.length === 1 ? ['a peer', 'is'] : [`${others.length} peers`, 'are'];
  return [
    `${what} of the cluster ${are} not in the file and stay${others.length === 1 ? 's' : ''}: ${quoted(others)}`,
  ];
}

function leftAlone(services: readonly ServiceState[]): readonly string[] {
  if (services.length === 0) return [];
  const names = quoted(services.map(({ name }) => name));
  return services.length === 1
    ? [`a service of the cluster is not in the file and stays (--prune would delete it): ${names}`]
    : [
        `${services.length} services of the cluster are not in the file and stay (--prune would delete them): ${names}`,
      ];
}
