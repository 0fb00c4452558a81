import type { PeerId } from '../../events/brand.ts';
import { sha256 } from '../digest.ts';
import { DESIRED_NAMES } from '../projection-names.ts';
import type { Views } from '../views.ts';
import type { DesiredFirewall, DesiredName, DesiredState } from './contract.ts';
import { deriveFirewall } from './firewall.ts';
import { firewallDigest } from './firewall-digest.ts';
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
export const desiredDigest = <N extends DesiredName>(name: N, desired: DesiredState[N]): string =>
  name === 'firewall' ? firewallDigest(desired as DesiredFirewall) : sha256(JSON.stringify(desired));
