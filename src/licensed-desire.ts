import type { PeerId } from '../events/brand.ts';
import type { Clock } from '../events/clock.ts';
import type { Log } from '../events/log-contract.ts';
import type { DesiredName, DesiredState } from '../projections/desired/contract.ts';
import { deriveOne, desiredDigest } from '../projections/desired/derive.ts';
import { Fold } from '../projections/fold.ts';
import type { Projections } from '../projections/runner.ts';
import { licenseStateAt } from './commands/license-state.ts';

export interface LicensedDesireDeps {
  readonly clock: Pick<Clock, 'now'>;
  readonly log: Pick<Log, 'subscribe'>;
  readonly localPeer: PeerId;
  readonly projections: Pick<Projections, 'desired' | 'desiredDigest' | 'firewallChanges' | 'views' | 'bus'>;
}

/** What the kernel and the engines of this host shall hold: what the log says, or nothing once the license is suspended. */
export interface LicensedDesire {
  desired<N extends DesiredName>(name: N): DesiredState[N];
  digest(name: DesiredName): string;
  firewallChanges(since: number): ReturnType<Projections['firewallChanges']>;
  /** As the projections' own bus, and every part when the license changes its state. Returns the way to end it. */
  onChanged(listener: Parameters<Projections['bus']['on']>[1]): () => void;
}

/** SPEC section 8: `suspended` stops the services; their configuration stays, and a new license brings them back. */
export function createLicensedDesire(deps: LicensedDesireDeps): LicensedDesire {
  const { projections, clock, localPeer } = deps;
  const nothing = new Fold();
  const stopped = new Map<DesiredName, DesiredState[DesiredName]>();

  const suspended = (): boolean => {
    const license = projections.views.license();
    return license !== undefined && licenseStateAt(license.expires_at, clock.now()) === 'suspended';
  };
  /** The same object each time, as the projections give while nothing changes. */
  const none = <N extends DesiredName>(name: N): DesiredState[N] => {
    const made = (stopped.get(name) as DesiredState[N] | undefined) ?? deriveOne(name, nothing, localPeer);
    stopped.set(name, made);
    return made;
  };

  return {
    desired: (name) => (suspended() ? none(name) : projections.desired(name)),
    digest: (name) => (suspended() ? desiredDigest(name, none(name)) : projections.desiredDigest(name)),
    // Revision -1 belongs to no state, so whoever comes back from a suspension starts from the whole.
    firewallChanges: (since) =>
      suspended() ? { revision: -1, changes: undefined } : projections.firewallChanges(since),
    onChanged(listener) {
      projections.bus.on('changed', listener);
      const unsubscribe = deps.log.subscribe((events) => {
        // `cluster` wakes every reconciler.
        if (events.some((event) => event.type === 'license.state_changed')) listener('cluster');
      });
      return () => {
        projections.bus.off('changed', listener);
        unsubscribe();
      };
    },
  };
}
