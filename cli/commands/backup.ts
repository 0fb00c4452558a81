import { existsSync } from 'node:fs';
import { resolve } from 'node:path';
import { EXIT } from '../../events/errors.ts';
import { requireAgentSettings } from '../agent-settings.ts';
import { makeBackup } from '../backup-archive.ts';
import type { Run } from '../command.ts';

/** Needs the files of the agent, so it runs on its host, as root; the agent may go on. */
export const backup: Run = async (context, input) => {
  const file = resolve(input.arg(0));
  const { dataDir, configDir } = requireAgentSettings(context.env);
  if (existsSync(file)) await context.confirm(`Replace ${file}?`);
  context.terminal.status('copying the event log ...');
  const manifest = await makeBackup(file, {
    dataDir,
    configDir,
    version: context.version,
    now: context.clock.now(),
  });
  context.terminal.status('');
  const { files, ...shown } = manifest;
  await context.output.fields({ file, ...shown, files: files.map(({ name }) => name) }, [
    ['Backup', file],
    ['Peer', manifest.peer_id],
    ['Events', String(manifest.head)],
    ['Holds', files.map(({ name }) => name).join(', ')],
  ]);
  context.terminal.note('It holds the private key of this peer: keep it as secret as the host itself.');
  return EXIT.success;
};
