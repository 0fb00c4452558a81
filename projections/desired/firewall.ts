import type { Cidr, ServiceId } from '../../events/brand.ts';
import type { RouteView, Views } from '../views.ts';
import { type ClassRoute, type DesiredFirewall, MARK, type RouteClass } from './contract.ts';
import { interfaceName } from './interfaces.ts';
import { assignNumbers, markOf } from './marks.ts';
import { compareClasses, compareEqualPrefixes, prefixLength } from './precedence.ts';
import type { Relevant } from './relevant.ts';

/** The mark of each service this host takes part in. */
export const serviceMarks = ({ entries, exits }: Relevant): ReadonlyMap<ServiceId, number> => {
  const numbers = assignNumbers([...entries, ...exits].map((service) => service.id));
  return new Map([...numbers].map(([id, number]) => [id, markOf(MARK.service, number)]));
};

interface OpenClass {
  readonly family: RouteClass['family'];
  readonly source_length: number | null;
  readonly dest_length: number | null;
  /** By (source, destination): of the routes that name one pair, the one that wins. */
  readonly winners: Map<string, RouteView>;
}

/** What the kernel has to classify on this host. */
export function deriveFirewall(views: Views, relevant: Relevant): DesiredFirewall {
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
      };
    }),
    classes: deriveClasses(relevant.entries.map((service) => views.routes.ofService(service.id))),
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
      const { winners } = classOf(open, source, dest);
      const pair = `${source ?? ''} ${dest ?? ''}`;
      const held = winners.get(pair);
      if (held === undefined || compareEqualPrefixes(route, held) < 0) winners.set(pair, route);
    }
  }
  return [...open.values()]
    .sort((a, b) => (a.family === b.family ? compareClasses(a, b) : a.family === 'ipv4' ? -1 : 1))
    .map(({ family, source_length, dest_length, winners }) => ({
      family,
      source_length,
      dest_length,
      routes: Array.from(winners.values(), toClassRoute),
    }));
}

function classOf(open: Map<string, OpenClass>, source: Cidr | null, dest: Cidr | null): OpenClass {
  const family = (source ?? dest ?? '').includes(':') ? 'ipv6' : 'ipv4';
  const sourceLength = source === null ? null : prefixLength(source);
  const destLength = dest === null ? null : prefixLength(dest);
  const key = `${family} ${sourceLength} ${destLength}`;
  const known = open.get(key);
  if (known) return known;
  const made: OpenClass = {
    family,
    source_length: sourceLength,
    dest_length: destLength,
    winners: new Map(),
  };
  open.set(key, made);
  return made;
}

const toClassRoute = (route: RouteView): ClassRoute => ({
  key: route.key,
  number: route.id,
  service_id: route.service_id,
  source_cidr: route.source_cidr,
  dest_cidr: route.dest_cidr,
});
