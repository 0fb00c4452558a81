import type { PeerId } from '../events/brand.ts';
import type { Clock, Random } from '../events/clock.ts';
import type { AnyNewEvent } from '../events/envelope.ts';
import type { Log } from '../events/log-contract.ts';
import type { Projections } from '../projections/runner.ts';
import type { TunnelEngine } from './engines/iptun/contract.ts';
import type { TproxyEngine } from './engines/tproxy/contract.ts';
import type { Kernel } from './kernel/contract.ts';
import type { LicensedDesire } from './licensed-desire.ts';
import type { Reconcilers } from './reconcilers/contract.ts';
import { createFirewallReconciler } from './reconcilers/firewall.ts';
import { createIptunReconciler, tunnelDigest } from './reconcilers/iptun.ts';
import { createNetworkReconciler } from './reconcilers/network.ts';
import { passable } from './reconcilers/pass.ts';
import { createReconcilers, type ReconcilersDeps } from './reconcilers/runner.ts';
import { createTproxyReconciler } from './reconcilers/tproxy.ts';
import { nameOfService } from './service-name.ts';
import type { Settings } from './settings.ts';

export interface ReconciliationDeps {
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: ReconcilersDeps['logger'];
  readonly log: Pick<Log, 'meta'>;
  readonly projections: Projections;
  readonly desire: LicensedDesire;
  readonly kernel: Kernel;
  readonly engine: TproxyEngine;
  readonly tunnel: TunnelEngine;
  readonly record: (events: readonly AnyNewEvent[]) => void;
}

/** The four reconcilers with what each desires, what wakes it and what it watches; the second half of the composition root. */
export function createReconciliation(settings: Settings, deps: ReconciliationDeps): Reconcilers {
  const { clock, random, logger, log, projections, desire, kernel, engine, tunnel, record } = deps;
  const { views } = projections;
  const pause = (ms: number): Promise<void> => new Promise((resolve) => clock.after(ms, resolve));
  const tproxy = createTproxyReconciler({
    engine,
    desired: () => desire.desired('tproxy'),
    endpointOf: (peer) => hostEndpoint(views.peers.get(peer)?.address, settings.tproxyPort),
  });
  return createReconcilers(
    { resyncMs: settings.resyncSeconds * 1_000, observeOnly: settings.observeOnly },
    {
      clock,
      random,
      logger,
      caughtUp: () => projections.caughtUp,
      bootstrapped: () => views.cluster().cluster_id !== undefined,
      position: () => projections.position,
      record,
      onProjectionChanged: desire.onChanged,
      watchKernel: (listener) => kernel.watch(listener),
      reconcilers: [
        {
          passable: passable(
            createNetworkReconciler(
              { parentInterface: settings.parentInterface },
              { kernel, desired: () => desire.desired('interfaces') },
            ),
          ),
          digest: () => desire.digest('interfaces'),
          wakesOn: ['interfaces'],
          watches: ['link', 'address', 'rule', 'route'],
        },
        {
          passable: passable(tproxy),
          digest: () => tproxy.digest(),
          wakesOn: ['tproxy', 'peers'],
          watches: [],
        },
        {
          passable: passable(
            createFirewallReconciler(
              { listenPort: () => engine.listenPort, firewallOwner: settings.firewallOwner },
              {
                kernel,
                desired: () => desire.desired('firewall'),
                changes: (since) => desire.firewallChanges(since),
                serviceName: (id) => nameOfService(views, id),
                memory: log.meta,
                pause,
              },
            ),
          ),
          digest: () => desire.digest('firewall'),
          wakesOn: ['firewall'],
          watches: ['nftables', 'rule', 'route', 'sysctl'],
        },
        {
          passable: passable(
            createIptunReconciler({
              kernel,
              engine: tunnel,
              firewallOwner: settings.firewallOwner,
              desired: () => ({
                iptun: desire.desired('iptun'),
                firewall: desire.desired('firewall'),
                tproxy: desire.desired('tproxy'),
              }),
              changes: (since) => desire.firewallChanges(since),
              nameOf: (id) => views.peers.get(id as PeerId)?.name ?? nameOfService(views, id),
              endpointOf: (peer) => hostEndpoint(views.peers.get(peer)?.address, settings.tunnelPort),
              memory: log.meta,
              pause,
            }),
          ),
          digest: () =>
            tunnelDigest((['iptun', 'firewall', 'tproxy'] as const).map((part) => desire.digest(part))),
          wakesOn: ['iptun', 'firewall', 'tproxy', 'peers'],
          watches: ['nftables', 'rule', 'route', 'link', 'sysctl'],
        },
      ],
    },
  );
}

/** Carriers and tunnels go to the host of a peer's address, at the port that all agents of a cluster share for each. */
function hostEndpoint(
  address: string | undefined,
  port: number,
): { readonly host: string; readonly port: number } | undefined {
  const host = address === undefined ? undefined : /^\[?(.+?)\]?:\d+$/.exec(address)?.[1];
  return host === undefined ? undefined : { host, port };
}
