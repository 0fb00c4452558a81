import { Document, isCollection, isMap, isScalar, parseDocument } from 'yaml';
import { EXIT } from '../../events/errors.ts';
import { Failure } from '../failure.ts';
import type { ClusterState } from './cluster-state.ts';
import { literal } from './interpolation.ts';
import type { ClusterSpec, PeerSpec, RouteSpec, ServiceSpec } from './spec.ts';

/** What a file can say of a cluster, and what it cannot. */
export interface Exported {
  readonly spec: ClusterSpec;
  /** Services left out, with the reason. */
  readonly left: readonly string[];
}

/**
 * The cluster as a compose file would have it. A service that carries nothing, or whose peer is gone, has no place in a file.
 * @throws Failure when names do not tell things apart
 */
export function specOf(state: ClusterState): Exported {
  requireUnique('peer', state.members);
  requireUnique('service', state.services);
  const members = new Set(state.members.map(({ name }) => name));
  const left: string[] = [];
  const services = state.services.flatMap(({ id: _, source_peer_id: _s, target_peer_id: _t, ...service }) => {
    const gone = [service.source_peer, service.target_peer].find((peer) => !members.has(peer));
    if (gone !== undefined) left.push(`service '${service.name}' is left out: its peer ${gone} is no member`);
    else if (!service.interface_enabled && service.routes.length === 0)
      left.push(`service '${service.name}' is left out: it has neither an interface nor a route`);
    else return [{ ...service, routes: service.routes.map(({ id: _route, ...route }) => route) }];
    return [];
  });
  const peers = state.members.map(({ name, address, api_access }) => ({ name, address, api_access }));
  return { spec: { license: undefined, peers, services }, left };
}

function requireUnique(
  kind: string,
  things: readonly { readonly id: string; readonly name: string }[],
): void {
  const seen = new Map<string, string>();
  for (const { id, name } of things) {
    const other = seen.get(name);
    if (other !== undefined)
      throw new Failure(
        EXIT.general,
        `the ${kind}s ${other} and ${id} both have the name '${name}', and a file tells them apart by name; ` +
          `rename one with: arctic ${kind}s update ${id} --name NAME`,
      );
    seen.set(name, id);
  }
}

/** The data of a file: as it is written, without what is the default anyway. */
export const fileData = (spec: ClusterSpec) => ({
  version: 'v1',
  ...(spec.license === undefined ? {} : { license: literal(spec.license) }),
  peers: spec.peers.map(peerData),
  services: spec.services.map(serviceData),
});

const peerData = (peer: PeerSpec) => ({
  name: literal(peer.name),
  address: peer.address,
  ...(peer.api_access === 'internal' ? { api_access: peer.api_access } : {}),
});

const serviceData = (service: ServiceSpec) => ({
  name: literal(service.name),
  source_peer: literal(service.source_peer),
  target_peer: literal(service.target_peer),
  transport_type: service.transport_type,
  ...(service.fully_transparent ? { fully_transparent: true } : {}),
  ...(service.interface_enabled
    ? {
        interface: {
          enabled: true,
          ...(service.interface_ipv4 === null ? {} : { ipv4: service.interface_ipv4 }),
          ...(service.interface_ipv6 === null ? {} : { ipv6: service.interface_ipv6 }),
        },
      }
    : {}),
  ...(service.bandwidth_limit_mbps > 0
    ? { qos: { bandwidth_limit_mbps: service.bandwidth_limit_mbps } }
    : {}),
  ...(service.on_failure === 'reject' ? { on_failure: service.on_failure } : {}),
  ...(service.routes.length > 0 ? { routes: service.routes.map(routeData) } : {}),
});

const routeData = (route: RouteSpec) => ({
  priority: route.priority,
  ...(route.source_cidr === null ? {} : { source_cidr: route.source_cidr }),
  ...(route.dest_cidr === null ? {} : { dest_cidr: route.dest_cidr }),
});

/** How every compose file is laid out. */
const LAYOUT = {
  indent: 2,
  lineWidth: 0,
  flowCollectionPadding: true,
  aliasDuplicateObjects: false,
} as const;

/** The text of a compose file, with a blank line before each section and service. */
export function renderFile(spec: ClusterSpec, comments: readonly string[] = []): string {
  const document = new Document(fileData(spec), { aliasDuplicateObjects: false });
  const { contents } = document;
  if (isMap(contents))
    for (const { key, value } of contents.items) {
      const name = isScalar(key) ? key.value : undefined;
      if (isScalar(key) && name !== 'version') key.spaceBefore = true;
      if (!isCollection(value)) continue;
      if (value.items.length === 0) value.flow = true;
      if (name !== 'services') continue;
      for (const item of value.items.slice(1)) if (isMap(item)) item.spaceBefore = true;
    }
  if (comments.length > 0) document.commentBefore = comments.map((line) => ` ${line}`).join('\n');
  return document.toString(LAYOUT);
}

/**
 * The text in the common layout: two spaces, no folding, blank lines and comments where they were. Never changes what the
 * file says: the result is read again and compared. Undefined for a text that is not YAML, whose faults others report.
 */
export function formatText(text: string): string | undefined {
  try {
    const document = parseDocument(text, { prettyErrors: false });
    if (document.errors.length > 0) return undefined;
    const formatted = document.toString(LAYOUT);
    const again = parseDocument(formatted, { prettyErrors: false });
    const same =
      again.errors.length === 0 && JSON.stringify(again.toJS()) === JSON.stringify(document.toJS());
    return same ? formatted : undefined;
  } catch {
    return undefined;
  }
}
