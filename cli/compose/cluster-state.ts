import type { Cidr } from '../../events/brand.ts';
import { isRow, type Row, show, textOf } from '../fields.ts';
import type { ApiAccess, RouteSpec, ServiceSettings } from './spec.ts';

/** The cluster as one agent knows it, in the terms of a compose file. */
export interface ClusterState {
  readonly members: readonly MemberState[];
  readonly services: readonly ServiceState[];
}

export interface MemberState {
  readonly id: string;
  readonly name: string;
  readonly address: string;
  readonly endpoints: readonly string[];
  readonly api_access: ApiAccess;
  readonly is_local: boolean;
  /** The agent that was asked has no contact with it. */
  readonly unreachable: boolean;
}

export interface ServiceState extends ServiceSettings {
  readonly id: string;
  /** The id where the peer is no member any more; then it has no name. */
  readonly source_peer: string;
  readonly target_peer: string;
  readonly source_peer_id: string;
  readonly target_peer_id: string;
  readonly routes: readonly RouteState[];
}

export interface RouteState extends RouteSpec {
  readonly id: number;
}

export const EMPTY_STATE: ClusterState = { members: [], services: [] };

/** States of a peer that is in the cluster; `left` and `removed` ones are history. */
const PRESENT = new Set(['active', 'pending', 'unreachable']);

const strings = (value: unknown): readonly string[] =>
  Array.isArray(value) ? value.filter((one) => typeof one === 'string') : [];

const cidrOf = (row: Row, field: string): Cidr | null => (textOf(row, field) ?? null) as Cidr | null;

/** Rows of `GET /v1/peers` and `GET /v1/services`, which hold their routes. */
export function readState(peers: readonly Row[], services: readonly Row[]): ClusterState {
  const members = peers
    .filter((row) => PRESENT.has(String(row['state'])))
    .map(
      (row): MemberState => ({
        id: show(row, 'id'),
        name: show(row, 'name'),
        address: show(row, 'address'),
        endpoints: strings(row['endpoints']),
        api_access: row['api_access'] === 'internal' ? 'internal' : 'open',
        is_local: row['is_local'] === true,
        unreachable: row['state'] === 'unreachable',
      }),
    );
  const names = new Map(members.map(({ id, name }) => [id, name]));
  return { members, services: services.map((row) => readService(row, names)) };
}

const TRANSPORTS: readonly ServiceState['transport_type'][] = ['tcp', 'kcp', 'auto'];

/** What a later version has beside these is shown as the default. */
const transportOf = (row: Row): ServiceState['transport_type'] =>
  TRANSPORTS.find((one) => one === row['transport_type']) ?? 'tcp';

/** A service as the API or a replayed projection has it. */
export function readService(row: Row, names: ReadonlyMap<string, string>): ServiceState {
  const source = show(row, 'source_peer_id');
  const target = show(row, 'target_peer_id');
  const routes = Array.isArray(row['routes']) ? row['routes'].filter(isRow) : [];
  return {
    id: show(row, 'id'),
    name: show(row, 'name'),
    source_peer_id: source,
    target_peer_id: target,
    source_peer: names.get(source) ?? source,
    target_peer: names.get(target) ?? target,
    transport_type: transportOf(row),
    fully_transparent: row['fully_transparent'] === true,
    interface_enabled: row['requires_interface'] === true,
    interface_ipv4: cidrOf(row, 'desired_ipv4_cidr'),
    interface_ipv6: cidrOf(row, 'desired_ipv6_cidr'),
    bandwidth_limit_mbps: Number(row['bandwidth_limit_mbps'] ?? 0),
    on_failure: row['on_failure'] === 'reject' ? 'reject' : 'direct',
    routes: routes.map((route) => ({
      id: Number(route['id']),
      priority: Number(route['priority']),
      source_cidr: cidrOf(route, 'source_cidr'),
      dest_cidr: cidrOf(route, 'dest_cidr'),
    })),
  };
}
