import type { RouteView, Views } from '../views.ts';
import type { ClassRoute, DesiredFirewall, RouteClass } from './contract.ts';
import { interfaceName } from './interfaces.ts';
import { serviceMarks } from './marks.ts';
import { compareClasses, compareEqualPrefixes, prefixLength } from './precedence.ts';
import type { Relevant } from './relevant.ts';

type ClassHead = Omit<RouteClass, 'routes'>;

interface OpenClass extends ClassHead {
  /** By (source, destination): of the routes that name one pair, the one that wins. */
  readonly winners: Map<string, RouteView>;
}

/** What the kernel has to classify on this host, from nothing; `FirewallIndex` keeps the same current. */
export const deriveFirewall = (views: Views, relevant: Relevant): DesiredFirewall => {
  const { services, transparent_exit } = firewallServices(relevant);
  const classes = deriveClasses(relevant.entries.map((service) => views.routes.ofService(service.id)));
  return { services, classes, transparent_exit };
};

/** All but the routes. */
export function firewallServices(relevant: Relevant): Omit<DesiredFirewall, 'classes'> {
  const marks = serviceMarks(relevant);
  const named = new Set<string>();
  return {
    services: relevant.entries.map((service) => {
      // Of two services whose ids are cut to one name the older has the interface.
      const name = service.requires_interface ? interfaceName(service.id) : null;
      const first = name !== null && !named.has(name);
      if (name !== null) named.add(name);
      return {
        service_id: service.id,
        mark: marks.get(service.id) ?? 0,
        interface_name: first ? name : null,
        on_failure: service.on_failure,
      };
    }),
    transparent_exit: relevant.exits.some((service) => service.fully_transparent),
  };
}

/** Groups routes into kernel maps in order of evaluation. Inside a class the order is that of the input. */
export function deriveClasses(routesByService: readonly (readonly RouteView[])[]): readonly RouteClass[] {
  const open = new Map<string, OpenClass>();
  for (const routes of routesByService) {
    for (const route of routes) {
      const { source_cidr: source, dest_cidr: dest } = route;
      if (source === null && dest === null) continue;
      const head = classOfRoute(route);
      const key = classKey(head);
      let one = open.get(key);
      if (one === undefined) {
        one = { ...head, winners: new Map() };
        open.set(key, one);
      }
      const pair = `${source ?? ''} ${dest ?? ''}`;
      const held = one.winners.get(pair);
      if (held === undefined || compareEqualPrefixes(route, held) < 0) one.winners.set(pair, route);
    }
  }
  return [...open.values()]
    .sort(compareRouteClasses)
    .map(({ family, source_length, dest_length, winners }) => ({
      family,
      source_length,
      dest_length,
      routes: Array.from(winners.values(), toClassRoute),
    }));
}

/** Order of evaluation; the families never meet. */
export const compareRouteClasses = (a: ClassHead, b: ClassHead): number =>
  a.family === b.family ? compareClasses(a, b) : a.family === 'ipv4' ? -1 : 1;

/** The class a route belongs to. */
export function classOfRoute({
  source_cidr: source,
  dest_cidr: dest,
}: Pick<RouteView, 'source_cidr' | 'dest_cidr'>): ClassHead {
  return {
    family: (source ?? dest ?? '').includes(':') ? 'ipv6' : 'ipv4',
    source_length: source === null ? null : prefixLength(source),
    dest_length: dest === null ? null : prefixLength(dest),
  };
}

export const classKey = ({ family, source_length, dest_length }: ClassHead): string =>
  `${family} ${source_length} ${dest_length}`;

export const toClassRoute = (route: RouteView): ClassRoute => ({
  key: route.key,
  number: route.id,
  service_id: route.service_id,
  source_cidr: route.source_cidr,
  dest_cidr: route.dest_cidr,
});
