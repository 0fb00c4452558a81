import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { Logger } from 'pino';
import { ArcticError } from '../events/errors.ts';
import type { createIds } from '../events/ids.ts';
import { loadOrCreatePeerKey, readPeerKey, retirePeerKey } from './identity/peer-key.ts';
import type { Settings } from './settings.ts';

/**
 * The identity in the key file. A key whose database is gone is put aside: that peer has signed events it no longer remembers,
 * so the host comes back as a new one (re-bootstrap). A database whose key is gone cannot be written.
 */
export function loadIdentity(
  settings: Settings,
  logPath: string,
  logger: Logger,
  deps: Parameters<typeof loadOrCreatePeerKey>[1] & Parameters<typeof createIds>[0],
) {
  const keyPath = join(settings.dataDir, 'peer.key');
  const known = readPeerKey(keyPath);
  const logged = existsSync(logPath);
  if (known === undefined && logged) {
    throw new ArcticError(
      'UNAVAILABLE',
      `${keyPath} is missing, but ${logPath} was written with it. Restore the key from a backup, or move the database away and bootstrap again.`,
    );
  }
  if (known !== undefined && !logged) {
    const aside = retirePeerKey(keyPath, deps.clock);
    logger.warn({ retired: aside }, 'the database is gone: this host starts as a new peer');
  }
  return loadOrCreatePeerKey(keyPath, deps);
}
