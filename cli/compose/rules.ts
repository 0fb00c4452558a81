import type { Cidr } from '../../events/brand.ts';
import { type Checked, checkInterface, checkNetwork, familyOf } from '../../events/cidr.ts';
import { didYouMean } from '../../events/suggest.ts';
import type { Fault, Range } from './diagnostic.ts';
import type { ParsedFile, ParsedPeer, ParsedRoute, ParsedService } from './document.ts';
import { MOST_FAULTS, type Placed } from './reader.ts';
import type { ClusterSpec, PeerSpec, RouteSpec, ServiceSpec } from './spec.ts';
import { routeKey } from './spec.ts';

/** Collects faults; answers undefined, so that a check can refuse and end in one line. */
type Refuse = (at: Range, message: string) => undefined;

/**
 * Holds a file of the right shape to the rules of SPEC sections 4 and 7: unique names, references that exist, CIDRs in
 * canonical form. The agents hold every change to the same rules; here they are said with their place, before any change.
 */
export function checkRules(
  file: ParsedFile,
): { readonly spec: ClusterSpec } | { readonly faults: readonly Fault[] } {
  const faults: Fault[] = [];
  const refuse: Refuse = (at, message) => {
    if (faults.length < MOST_FAULTS) faults.push({ at, message });
    return undefined;
  };
  const peers = checkPeers(file.peers, refuse);
  const services = checkServices(file.services, new Set(peers.map(({ name }) => name)), refuse);
  if (faults.length > 0) return { faults };
  return { spec: { license: file.license?.value, peers, services } };
}

/** Refuses the second of two that share a key. */
function refuseTwice(
  seen: Map<string, string>,
  key: string,
  holder: string,
  at: Range,
  message: (first: string) => string,
  refuse: Refuse,
): void {
  const first = seen.get(key);
  if (first === undefined) seen.set(key, holder);
  else refuse(at, message(first));
}

function checkPeers(peers: readonly ParsedPeer[], refuse: Refuse): readonly PeerSpec[] {
  const names = new Map<string, string>();
  const addresses = new Map<string, string>();
  return peers.map(({ name, address, api_access }, index) => {
    refuseTwice(
      names,
      name.value,
      `peers[${index}]`,
      name.at,
      (first) => `the name '${name.value}' is that of ${first} already; names are unique`,
      refuse,
    );
    refuseTwice(
      addresses,
      address.value.toLowerCase(),
      name.value,
      address.at,
      (first) => `${address.value} is the address of peer '${first}' already`,
      refuse,
    );
    return { name: name.value, address: address.value, api_access };
  });
}

function checkServices(
  services: readonly ParsedService[],
  peers: ReadonlySet<string>,
  refuse: Refuse,
): readonly ServiceSpec[] {
  const names = new Map<string, string>();
  const addresses = new Map<string, string>();
  return services.map((service, index) => {
    const { name } = service;
    refuseTwice(
      names,
      name.value,
      `services[${index}]`,
      name.at,
      (first) => `the name '${name.value}' is that of ${first} already; names are unique`,
      refuse,
    );
    checkEnds(service, peers, refuse);
    const checked = checkSettings(service, refuse);
    for (const [cidr, placed] of [
      [checked.interface_ipv4, service.interface_ipv4],
      [checked.interface_ipv6, service.interface_ipv6],
    ] as const) {
      if (cidr === null || placed === undefined) continue;
      const address = cidr.slice(0, cidr.indexOf('/'));
      refuseTwice(
        addresses,
        `${service.source_peer.value}\n${address}`,
        name.value,
        placed.at,
        (first) => `${address} is the address of service '${first}' on the same peer already`,
        refuse,
      );
    }
    return checked;
  });
}

function checkEnds(service: ParsedService, peers: ReadonlySet<string>, refuse: Refuse): void {
  for (const end of ['source_peer', 'target_peer'] as const) {
    const { value, at } = service[end];
    if (!peers.has(value))
      refuse(at, `${end} names '${value}', which is not one of the peers.${didYouMean(value, peers)}`);
  }
  const { source_peer, target_peer } = service;
  if (source_peer.value === target_peer.value && peers.has(source_peer.value))
    refuse(target_peer.at, 'target_peer is the source peer itself; a service leads to another peer');
}

function checkSettings(service: ParsedService, refuse: Refuse): ServiceSpec {
  const { name, transport_type, fully_transparent, interface_enabled } = service;
  const address = (placed: Placed<string> | undefined, family: 'ipv4' | 'ipv6'): Cidr | null => {
    if (placed === undefined) return null;
    if (!interface_enabled) {
      refuse(placed.at, `interface.${family} is the address of the interface, so it needs 'enabled: true'`);
      return null;
    }
    return canonical(placed, (text) => checkInterface(text, family), refuse);
  };
  const ipv4 = address(service.interface_ipv4, 'ipv4');
  const ipv6 = address(service.interface_ipv6, 'ipv6');
  if (fully_transparent.value && transport_type.value !== 'tcp')
    refuse(fully_transparent.at, 'fully_transparent needs transport_type: tcp');
  if (fully_transparent.value && !interface_enabled)
    refuse(fully_transparent.at, 'fully_transparent needs an enabled interface');
  if (!interface_enabled && service.routes.length === 0)
    refuse(name.at, `service '${name.value}' carries nothing: it needs an enabled interface or a route`);
  return {
    name: name.value,
    source_peer: service.source_peer.value,
    target_peer: service.target_peer.value,
    transport_type: transport_type.value,
    fully_transparent: fully_transparent.value,
    interface_enabled,
    interface_ipv4: ipv4,
    interface_ipv6: ipv6,
    bandwidth_limit_mbps: service.bandwidth_limit_mbps,
    on_failure: service.on_failure,
    routes: checkRoutes(service.routes, refuse),
  };
}

function checkRoutes(routes: readonly ParsedRoute[], refuse: Refuse): readonly RouteSpec[] {
  const seen = new Map<string, string>();
  return routes.map((route, index) => {
    const network = (placed: Placed<string> | undefined): Cidr | null =>
      placed === undefined ? null : canonical(placed, checkNetwork, refuse);
    const rule: RouteSpec = {
      priority: route.priority,
      source_cidr: network(route.source_cidr),
      dest_cidr: network(route.dest_cidr),
    };
    if (route.source_cidr === undefined && route.dest_cidr === undefined)
      refuse(route.at, 'a route needs a source_cidr, a dest_cidr or both');
    else if (rule.source_cidr !== null && rule.dest_cidr !== null) {
      if (familyOf(rule.source_cidr) !== familyOf(rule.dest_cidr))
        refuse(
          route.at,
          `a route is IPv4 or IPv6, not both (${rule.source_cidr} and ${rule.dest_cidr}); make one for each`,
        );
    }
    const valid = rule.source_cidr !== null || rule.dest_cidr !== null;
    if (valid)
      refuseTwice(
        seen,
        routeKey(rule),
        `routes[${index}]`,
        route.at,
        (first) => `this route says the same as ${first} of the service`,
        refuse,
      );
    return rule;
  });
}

/** The canonical CIDR; null when it was refused. */
function canonical(placed: Placed<string>, check: (text: string) => Checked, refuse: Refuse): Cidr | null {
  const checked = check(placed.value);
  if ('cidr' in checked) return checked.cidr;
  refuse(placed.at, checked.fault);
  return null;
}
