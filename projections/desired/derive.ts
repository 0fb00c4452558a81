import type { PeerId } from '../../events/brand.ts';
import { sha256 } from '../digest.ts';
import { DESIRED_NAMES } from '../projection-names.ts';
import type { Views } from '../views.ts';
import type { DesiredFirewall, DesiredName, DesiredState, RouteClass } from './contract.ts';
import { deriveFirewall } from './firewall.ts';
import { deriveInterfaces } from './interfaces.ts';
import { deriveIptun } from './iptun.ts';
import { relevantServices } from './relevant.ts';
import { deriveTproxy } from './tproxy.ts';

export { DESIRED_NAMES };

const DERIVE: { readonly [N in DesiredName]: (views: Views, local: PeerId) => DesiredState[N] } = {
  interfaces: (views, local) => deriveInterfaces(relevantServices(views, local)),
  firewall: (views, local) => deriveFirewall(views, relevantServices(views, local)),
  tproxy: (views, local) => deriveTproxy(views, relevantServices(views, local)),
  iptun: (views, local) => deriveIptun(relevantServices(views, local)),
};

/** Derives one part of what this host should hold. Pure: the views and who we are decide everything. */
export const deriveOne = <N extends DesiredName>(name: N, views: Views, local: PeerId): DesiredState[N] =>
  DERIVE[name](views, local);

export const deriveDesired = (views: Views, local: PeerId): DesiredState => ({
  interfaces: deriveOne('interfaces', views, local),
  firewall: deriveOne('firewall', views, local),
  tproxy: deriveOne('tproxy', views, local),
  iptun: deriveOne('iptun', views, local),
});

/** SHA-256 of a part of the desired state: equal when, and only when, the same things are desired. */
export function desiredDigest<N extends DesiredName>(name: N, desired: DesiredState[N]): string {
  if (name !== 'firewall') return sha256(JSON.stringify(desired));
  const { services, classes, transparent_exit } = desired as DesiredFirewall;
  return sha256(JSON.stringify([services, classes.map(classDigest), transparent_exit]));
}

const classDigests = new WeakMap<RouteClass, string>();

/** Kept with the class, which is immutable: the only part that grows with the number of routes. */
function classDigest(routeClass: RouteClass): string {
  const known = classDigests.get(routeClass);
  if (known) return known;
  const { family, source_length, dest_length, routes } = routeClass;
  const lines = routes.map((r) => `${r.key} ${r.service_id} ${r.number} ${r.source_cidr} ${r.dest_cidr}`);
  const digest = sha256([family, source_length, dest_length, ...lines].join('\n'));
  classDigests.set(routeClass, digest);
  return digest;
}
