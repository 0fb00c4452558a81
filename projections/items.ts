import type { DesiredFirewall, DesiredIptun, DesiredTproxy } from './desired/contract.ts';
import type { ProjectionName, ReplayedState } from './replay.ts';

/** One thing of a state that can be compared with itself at another moment. */
export interface ComparedItem {
  readonly projection: ProjectionName;
  readonly id: string;
  readonly label: string;
  readonly fields: Readonly<Record<string, unknown>>;
  /** Entities whose events explain a change of it, the nearest first. */
  readonly behind: readonly string[];
}

/** Counters and clock readings that change with every write say nothing a person asked for. */
const NOISE = new Set(['version', 'updated_at', 'created_hlc', 'joined_hlc', 'revoked_hlc']);

const meaningful = (row: object): Readonly<Record<string, unknown>> =>
  Object.fromEntries(Object.entries(row).filter(([key, value]) => !NOISE.has(key) && value !== undefined));

/** What any desired state may hang on beside its own service. */
const MEMBERSHIP = ['any peer', 'any license', 'any cluster'] as const;

/** A state taken apart into things with an identity, by projection and id. */
export function itemsOf(
  state: ReplayedState,
  nameOf: (id: string) => string,
): ReadonlyMap<string, ComparedItem> {
  const items = new Map<string, ComparedItem>();
  const add = (
    projection: ProjectionName,
    id: string,
    label: string,
    row: object,
    behind: readonly string[],
  ): void => {
    items.set(`${projection} ${id}`, { projection, id, label, fields: meaningful(row), behind });
  };

  for (const row of state.peers ?? []) add('peers', row.id, `peer ${row.name}`, row, [row.id, ...MEMBERSHIP]);
  for (const row of state.services ?? []) add('services', row.id, `service ${row.name}`, row, [row.id]);
  for (const row of state.routes ?? [])
    add('routes', row.key, `route ${row.id} of ${nameOf(row.service_id)}`, row, [row.key, row.service_id]);
  for (const row of state.credentials ?? [])
    add('credentials', row.client_id, `credential ${row.client_id}`, row, [row.client_id]);
  if (state.license) add('license', state.license.license_id, 'license', state.license, ['any license']);
  if (state.cluster) add('cluster', 'cluster', 'cluster', state.cluster, ['any cluster']);

  const ofService = (id: string): readonly string[] => [id, `routes of ${id}`, ...MEMBERSHIP];
  for (const row of state.interfaces ?? [])
    add('interfaces', row.service_id, `interface ${row.name}`, row, ofService(row.service_id));
  if (state.firewall) firewallItems(state.firewall, nameOf, ofService, add);
  if (state.tproxy) tproxyItems(state.tproxy, ofService, add);
  if (state.iptun) iptunItems(state.iptun, nameOf, ofService, add);
  return items;
}

type Add = (
  projection: ProjectionName,
  id: string,
  label: string,
  row: object,
  behind: readonly string[],
) => void;
type Names = (id: string) => string;
type Behind = (service: string) => readonly string[];

const cidrs = (source: string | null, dest: string | null): string =>
  `${source ?? 'any'} -> ${dest ?? 'any'}`;

function firewallItems(firewall: DesiredFirewall, nameOf: Names, behind: Behind, add: Add): void {
  for (const row of firewall.services)
    add('firewall', row.service_id, `mark of ${nameOf(row.service_id)}`, row, behind(row.service_id));
  for (const { family, source_length, dest_length, routes } of firewall.classes) {
    for (const route of routes) {
      const label = `${family} rule of route ${route.number} of ${nameOf(route.service_id)}`;
      const row = { ...route, family, source_length, dest_length };
      add('firewall', route.key, label, row, [route.key, ...behind(route.service_id)]);
    }
  }
  const { transparent_exit } = firewall;
  add('firewall', 'transparent_exit', 'divert path', { transparent_exit }, ['any service', ...MEMBERSHIP]);
}

function tproxyItems(tproxy: DesiredTproxy, behind: Behind, add: Add): void {
  for (const row of tproxy.entries)
    add('tproxy', `entry ${row.service_id}`, `entry of ${row.name}`, row, behind(row.service_id));
  for (const { destinations, ...row } of tproxy.exits) {
    add('tproxy', `exit ${row.service_id}`, `exit of ${row.name}`, row, behind(row.service_id));
    for (const one of destinations) {
      const pair = cidrs(one.source_cidr, one.dest_cidr);
      add('tproxy', `exit ${row.service_id} ${pair}`, `exit of ${row.name} may dial ${pair}`, one, [
        `routes of ${row.service_id}`,
        ...behind(row.service_id),
      ]);
    }
  }
}

function iptunItems(iptun: DesiredIptun, nameOf: Names, behind: Behind, add: Add): void {
  for (const { peer_id, mark, services } of iptun.peers) {
    const name = nameOf(peer_id);
    add('iptun', peer_id, `tunnel to ${name}`, { peer_id, mark }, ['any service', ...MEMBERSHIP]);
    for (const row of services)
      add(
        'iptun',
        `${peer_id} ${row.service_id}`,
        `${nameOf(row.service_id)} in the tunnel to ${name}`,
        row,
        behind(row.service_id),
      );
  }
}
