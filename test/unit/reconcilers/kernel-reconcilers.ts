/** The two reconcilers that write to a kernel, wired as in an agent; for tests and benches with or without a real one. */
import { systemClock } from '../../../events/clock.ts';
import type { AnyNewEvent } from '../../../events/envelope.ts';
import type { Projections } from '../../../projections/runner.ts';
import type { Kernel } from '../../../src/kernel/contract.ts';
import { createFirewallReconciler } from '../../../src/reconcilers/firewall.ts';
import { createNetworkReconciler } from '../../../src/reconcilers/network.ts';
import { passable } from '../../../src/reconcilers/pass.ts';
import { createReconcilers } from '../../../src/reconcilers/runner.ts';

export const PARENT = 'lan0';
const LISTEN_PORT = 17_000;

interface Wiring {
  readonly kernel: Kernel;
  readonly projections: Projections;
  /** Claim the owner flag. Default false. */
  readonly owned?: boolean;
  readonly serviceName?: (id: string) => string;
}

/** As `createReconcilers` takes them. */
export function kernelReconcilers({ kernel, projections, owned = false, serviceName = (id) => id }: Wiring) {
  const memory = new Map<string, string>();
  return [
    {
      passable: passable(
        createNetworkReconciler(
          { parentInterface: PARENT },
          { kernel, desired: () => projections.desired('interfaces') },
        ),
      ),
      digest: () => projections.desiredDigest('interfaces'),
      wakesOn: ['interfaces'],
      watches: ['link', 'address', 'rule', 'route'],
    },
    {
      passable: passable(
        createFirewallReconciler(
          { listenPort: () => LISTEN_PORT, firewallOwner: owned },
          {
            kernel,
            desired: () => projections.desired('firewall'),
            changes: (since) => projections.firewallChanges(since),
            serviceName,
            memory: { get: (key) => memory.get(key), set: (key, value) => void memory.set(key, value) },
          },
        ),
      ),
      digest: () => projections.desiredDigest('firewall'),
      wakesOn: ['firewall'],
      watches: ['nftables', 'rule', 'route', 'sysctl'],
    },
  ] as const;
}

/** Both in a runner on the real clock; `record` gets the local events. */
export function createKernelReconcilers(
  wiring: Wiring & { readonly record?: (events: readonly AnyNewEvent[]) => void },
): ReturnType<typeof createReconcilers> {
  const { kernel, projections, record = () => undefined } = wiring;
  const silent = { debug: () => {}, info: () => {}, warn: () => {}, error: () => {} };
  return createReconcilers(
    {},
    {
      clock: systemClock,
      random: { fraction: () => 0.5 },
      logger: { child: () => silent },
      caughtUp: () => projections.caughtUp,
      bootstrapped: () => true,
      position: () => projections.position,
      record,
      onProjectionChanged: (listener) => {
        projections.bus.on('changed', listener);
        return () => projections.bus.off('changed', listener);
      },
      watchKernel: (listener) => kernel.watch(listener),
      reconcilers: kernelReconcilers(wiring),
    },
  );
}
