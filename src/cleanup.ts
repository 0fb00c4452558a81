/** What `arctic agent --cleanup` does: takes everything of ours out of the kernel while no agent runs. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { systemClock, systemRandom } from '../events/clock.ts';
import { ArcticError } from '../events/errors.ts';
import { openLog } from '../events/log.ts';
import { LogError } from '../events/log-errors.ts';
import { requireNetAdmin } from './host.ts';
import { readPeerKey } from './identity/peer-key.ts';
import { createKernel } from './kernel/kernel.ts';
import type { SysctlMemory } from './reconcilers/firewall/sysctls.ts';
import { createFirewallReconciler } from './reconcilers/firewall.ts';
import { removeTunnels } from './reconcilers/iptun.ts';
import { createNetworkReconciler } from './reconcilers/network.ts';
import type { Settings } from './settings.ts';

const NOTHING = () => {
  throw new Error('nothing is desired while cleaning up');
};

/** Kept in the log by the agent; a host without one has nothing to put back. */
interface HeldMemory {
  readonly memory: SysctlMemory;
  readonly note: string | undefined;
  release(): void;
}

/**
 * The log is opened for its memory of the kernel parameters found before ours, and for its lock: a running agent would
 * put everything back at once. A log that cannot be opened for another reason is no reason to leave rules behind.
 * Throws when an agent is running on it.
 */
function openMemory(settings: Settings): HeldMemory {
  const path = join(settings.dataDir, 'arctic.db');
  const none = (note: string): HeldMemory => ({
    memory: { get: () => undefined, set: () => undefined },
    note,
    release: () => undefined,
  });
  if (!existsSync(path)) return none(`there is no ${path}, so kernel parameters were left as they are`);
  try {
    const identity = readPeerKey(join(settings.dataDir, 'peer.key'));
    if (identity === undefined)
      return none('there is no peer key, so kernel parameters were left as they are');
    const log = openLog(
      { path, origin: identity.peerId, verify: 'none' },
      { signer: identity, clock: systemClock, random: systemRandom, onError: () => undefined },
    );
    return { memory: log.meta, note: undefined, release: () => log.close() };
  } catch (error) {
    if (error instanceof LogError && error.trouble === 'in-use') throw error;
    if (!(error instanceof ArcticError)) throw error;
    return none(`kernel parameters were left as they are: ${error.message}`);
  }
}

/** Removes the tables, policy routing and interfaces of ours, and puts kernel parameters back. Gives what it did. */
export async function cleanUpKernel(settings: Settings): Promise<readonly string[]> {
  requireNetAdmin();
  const { memory, note, release } = openMemory(settings);
  const kernel = createKernel();
  try {
    await kernel.start();
    const reconcilers = [
      createFirewallReconciler(
        { listenPort: () => 0 },
        { kernel, desired: NOTHING, serviceName: (id) => id, memory },
      ),
      createNetworkReconciler({ parentInterface: settings.parentInterface }, { kernel, desired: NOTHING }),
    ];
    await removeTunnels({ kernel, memory });
    for (const reconciler of reconcilers) await reconciler.cleanup('all');
    return [
      'removed the tables, policy routing and service interfaces of Arctic from the kernel',
      ...(note === undefined ? [] : [note]),
    ];
  } finally {
    await kernel.stop();
    release();
  }
}
