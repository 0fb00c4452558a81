import { existsSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { EXIT } from '../../events/errors.ts';
import { readPeerKey } from '../../src/identity/peer-key.ts';
import { requireAgentSettings } from '../agent-settings.ts';
import { openBackup, putInPlace } from '../backup-archive.ts';
import type { Run } from '../command.ts';
import { Failure } from '../failure.ts';
import { untilTrue } from '../setup/background.ts';
import { answers } from '../setup/carry-out.ts';
import { systemctl } from '../setup/install.ts';
import { runProgram, systemdRuns } from '../setup/systemd.ts';
import { UNIT_NAME } from '../setup/unit.ts';

const START_LIMIT_MS = 30_000;

const unitIsActive = async (): Promise<boolean> =>
  systemdRuns() && (await runProgram('systemctl', ['is-active', '--quiet', UNIT_NAME])).code === 0;

/**
 * Puts a backup in place of the event log. Everything is checked before anything is touched, and what was there is put
 * aside, not removed. A unit that runs is stopped for it and started again; another agent must be stopped by hand.
 */
export const restore: Run = async (context, input) => {
  const file = resolve(input.arg(0));
  const { dataDir, configDir, settings } = requireAgentSettings(context.env);
  const logPath = join(dataDir, 'arctic.db');
  mkdirSync(dataDir, { recursive: true, mode: 0o700 });
  const [{ lockLog }, { openLogReader }] = await Promise.all([
    import('../../events/log-lock.ts'),
    import('../../events/log.ts'),
  ]);
  // On the file system of the data directory, so that putting it in place is a rename.
  const work = mkdtempSync(join(dataDir, '.restore-'));
  try {
    context.terminal.status('checking the backup ...');
    const manifest = await openBackup(file, work);
    const log = openLogReader({ path: join(work, 'arctic.db'), verify: 'full' });
    const { origin, head } = log;
    log.close();
    const key = readPeerKey(join(work, 'peer.key'));
    context.terminal.status('');
    if (key?.peerId !== origin)
      throw new Failure(EXIT.general, `${file} holds the log of ${origin} with the key of another peer.`);
    const own = existsSync(join(dataDir, 'peer.key')) ? readPeerKey(join(dataDir, 'peer.key')) : undefined;
    const foreign =
      own !== undefined && own.peerId !== origin
        ? ' It is of another peer, which must not run anywhere else.'
        : '';
    await context.confirm(
      `Replace the event log of this host by the backup of ${manifest.created_at} (${origin}, ${head} events)?${foreign}`,
    );
    const wasActive = await unitIsActive();
    if (wasActive) await systemctl('stop', UNIT_NAME);
    // Held while files change places: an agent that is started meanwhile must not see half of it.
    const lock = lockLog(logPath);
    const aside = join(
      dataDir,
      `before-restore-${new Date(context.clock.now()).toISOString().replaceAll(/[:.]/g, '-')}`,
    );
    let moved: readonly string[];
    try {
      moved = putInPlace(work, { dataDir, configDir }, aside);
    } finally {
      lock.release();
    }
    if (wasActive) {
      await systemctl('start', UNIT_NAME);
      const scheme = settings.tls === undefined ? 'http' : 'https';
      const client = await context.clientFor(`${scheme}://localhost:${settings.apiPort}`);
      await untilTrue('the agent does not start', START_LIMIT_MS, () => answers(client));
    }
    const kept = moved.length > 0 && existsSync(aside) ? aside : null;
    await context.output.fields(
      { restored: file, peer_id: origin, head, created_at: manifest.created_at, aside: kept },
      [
        ['Restored', file],
        ['Peer', origin],
        ['Events', String(head)],
        ['Put aside', kept ?? 'nothing was there'],
        ['Agent', wasActive ? 'stopped and started again' : "not running: 'systemctl start arctic'"],
      ],
    );
    context.terminal.note(
      'Events of this peer that are newer than the backup come back from the other members before it writes again.',
    );
    return EXIT.success;
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
};
