import type { EventData, EventType } from './catalogue.ts';
import { CATALOGUE, isKnownType } from './catalogue.ts';
import type { AnyEvent } from './envelope.ts';

/** Gives an id (`svc_...`, `peer_...`, `cli_...`) the name people know it by; undefined when it has none. */
export type NameOf = (id: string) => string | undefined;

type Sentence<T extends EventType> = (
  data: EventData[T],
  entity: string,
  name: (id: string) => string,
) => string;

const cidrs = (source: string | null | undefined, dest: string | null | undefined): string =>
  `${source ?? 'anywhere'} -> ${dest ?? 'anywhere'}`;

/** `name=lon, bandwidth_limit_mbps=50`: only what is there; peers by name. */
const settings = (data: Readonly<Record<string, unknown>>, name: (id: string) => string): string =>
  Object.entries(data)
    .filter(([key, value]) => value !== undefined && key !== 'service_id')
    .map(([key, value]) => `${key}=${settingText(key, value, name)}`)
    .join(', ');

function settingText(key: string, value: unknown, name: (id: string) => string): string {
  if (value === null) return key === 'source_cidr' || key === 'dest_cidr' ? 'anywhere' : 'none';
  if (Array.isArray(value)) return value.join(',');
  return key.endsWith('_peer_id') ? name(String(value)) : String(value);
}

const time = (ms: number): string => new Date(ms).toISOString();
const count = (n: number, what: string): string => `${n} ${what}${n === 1 ? '' : 's'}`;
const short = (digest: string): string => digest.slice(0, 12);

const SENTENCES: { readonly [T in EventType]: Sentence<T> } = {
  'cluster.created': (d) => `cluster ${d.name ?? d.cluster_id} created for ${d.customer_id}`,
  'cluster.initialised': (d) => `cluster ${d.cluster_id} initialised${d.forced ? ' by force' : ''}`,
  'cluster.lock_acquired': (d) =>
    `cluster lock taken by ${d.holder} for ${d.purpose} until ${time(d.expires_at_ms)}`,
  'cluster.lock_released': (d) => `cluster lock ${d.broken ? 'broken' : 'given back'} (fence ${d.fence})`,
  'license.installed': ({ license }) =>
    `license ${license.license_id} installed: ${count(license.max_nodes, 'node')}, ${count(license.max_services, 'service')}, until ${license.expires_at}`,
  'peer.registered': (d) => `peer ${d.name} registered at ${d.address}`,
  'peer.admitted': (d, _, name) => `peer ${d.name ?? name(d.peer_id)} admitted at ${d.address}`,
  'peer.updated': (d, entity, name) => `peer ${name(entity)} updated: ${settings(d, name)}`,
  'peer.left': (d, _, name) => `peer ${name(d.peer_id)} left the cluster`,
  'peer.removed': (d, _, name) =>
    d.extends === undefined
      ? `peer ${name(d.peer_id)} removed; its history stands up to event ${d.last_seq}`
      : `peer ${name(d.peer_id)} stays removed; its history stands up to event ${d.last_seq}, which had been received before`,
  'peer.forked': (d, _, name) =>
    `peer ${name(d.peer_id)} signed two histories; nothing of it counts from its event ${d.seq} on (${d.first.id}, ${d.second.id})`,
  'service.created': (d, _, name) =>
    `service ${d.name} created: ${name(d.source_peer_id)} -> ${name(d.target_peer_id)} over ${d.transport_type}`,
  'service.updated': (d, entity, name) => `service ${name(entity)} updated: ${settings(d, name)}`,
  'service.flows_reset': (_, entity, name) => `connections of service ${name(entity)} reset`,
  'service.deleted': (_, entity, name) => `service ${name(entity)} deleted with its routes`,
  'route.added': (d, _, name) =>
    `route ${d.number} added to ${name(d.service_id)}: ${cidrs(d.source_cidr, d.dest_cidr)}, priority ${d.priority}`,
  'route.updated': (d, entity, name) =>
    `route ${name(entity)} of ${name(d.service_id)} updated: ${settings(d, name)}`,
  'route.deleted': (d, entity, name) => `route ${name(entity)} of ${name(d.service_id)} deleted`,
  'credential.created': (d) => `credential ${d.client_id} created with ${d.scopes.join(', ')}`,
  'credential.rotated': (d, entity) =>
    `secret of ${entity} rotated; the previous one is accepted until ${time(d.previous_valid_until_ms)}`,
  'credential.revoked': (_, entity) => `credential ${entity} revoked`,
  'credential.used': (d) => `credential ${d.client_id} used`,
  'license.state_changed': (d) => `license ${d.license_id} went from ${d.from ?? 'none'} to ${d.to}`,
  'agent.started': (d) => `agent ${d.version} started on Linux ${d.kernel}, Node ${d.node}`,
  'agent.stopped': (d) => `agent stopped: ${d.reason}`,
  'handshake.succeeded': (d, _, name) =>
    `handshake with ${name(d.peer_id)} at ${d.address} succeeded${d.initiator ? ', begun here' : ', begun there'}`,
  'handshake.failed': (d, _, name) =>
    `handshake with ${d.peer_id === null ? (d.address ?? 'an unknown peer') : name(d.peer_id)} failed: ${d.reason}`,
  'peer.unreachable': (d, _, name) => `peer ${name(d.peer_id)} unreachable: ${d.reason}`,
  'peer.reachable': (d, _, name) => `peer ${name(d.peer_id)} reachable again`,
  'clock.skew_detected': (d, _, name) =>
    `clock of ${name(d.peer_id)} is ${Math.abs(d.skew_ms)} ms ${d.skew_ms < 0 ? 'behind' : 'ahead'}`,
  'origin.quarantined': (d, _, name) =>
    `peer ${name(d.origin)} quarantined: it signed two different events as its number ${d.seq} (${d.first}, ${d.second})`,
  'checkpoint.inconsistent': (d, _, name) =>
    `${name(d.origin)} signed a checkpoint over its first ${d.size} events that contradicts what it signed before: it changed its past`,
  'reconcile.applied': (d) =>
    `${d.reconciler} applied ${count(d.changes, 'change')} up to position ${d.position} (digest ${short(d.digest)})`,
  'reconcile.failed': (d) => `${d.reconciler} failed at position ${d.position}: ${d.reason}`,
  'drift.found': (d) => {
    const who = d.program === null ? '' : ` by ${d.program}${d.pid === null ? '' : ` (pid ${d.pid})`}`;
    const [first] = d.differences;
    return `${d.reconciler} drifted${who}: ${count(d.total, 'difference')}${first === undefined ? '' : `, first ${first.item}`}`;
  },
  'drift.repaired': (d) =>
    `${d.reconciler} repaired ${count(d.total, 'difference')} (digest ${short(d.digest)})`,
  'recovery.used': (d) => `recovery token used for ${d.method} ${d.path}`,
};

/** One line for a person. Control characters that a peer's data may hold never reach the terminal. */
export function describeEvent(event: AnyEvent, nameOf: NameOf = () => undefined): string {
  const name = (id: string): string => nameOf(id) ?? id;
  if (!isKnownType(event.type)) return printable(newer(event, name, ''));
  if (event.version > CATALOGUE[event.type].version)
    return printable(newer(event, name, `version ${event.version}, `));
  return printable(sentence(event.type, event, name));
}

/** What a newer peer wrote: we do not know what it means, but not hide what it says. */
function newer(event: AnyEvent, name: (id: string) => string, version: string): string {
  const { type, entity, data } = event as {
    readonly type: string;
    readonly entity: string;
    readonly data: object;
  };
  const said = Object.entries(data).map(
    ([key, value]) => `${key}=${typeof value === 'string' ? value : JSON.stringify(value)}`,
  );
  const text = said.join(', ');
  return `${type} of ${name(entity)} (${version}of a newer Arctic)${text === '' ? '' : `: ${text.length > 200 ? `${text.slice(0, 200)}...` : text}`}`;
}

function sentence<T extends EventType>(type: T, event: AnyEvent, name: (id: string) => string): string {
  try {
    return SENTENCES[type](event.data as EventData[T], event.entity, name);
  } catch {
    // A newer version of a known type may lack what the sentence speaks of.
    return `${type} of ${name(event.entity)} (version ${event.version})`;
  }
}

/** C0, DEL, C1 and the bidirectional controls that can turn a line around. */
const printable = (text: string): string =>
  text.replaceAll(/[\p{Cc}\u200e\u200f\u202a-\u202e\u2066-\u2069]/gu, '\ufffd');
