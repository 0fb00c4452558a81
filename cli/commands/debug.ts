import { resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { EXIT } from '../../events/errors.ts';
import { readAgentSettings } from '../agent-settings.ts';
import { writeArchive } from '../backup-archive.ts';
import type { Client } from '../client.ts';
import type { Run } from '../command.ts';
import type { Context } from '../context.ts';
import { agentPieces, hostPieces, type Piece, secretsOfHost } from '../doctor/bundle.ts';
import { renderReport } from '../doctor/report.ts';
import { createScrub } from '../doctor/scrub.ts';
import { parseDuration } from '../duration.ts';
import { toFailure, usageFailure } from '../failure.ts';
import { createStyle } from '../style.ts';
import { isThisHost } from '../this-host.ts';
import { examine, reportResource } from './doctor.ts';

/** The longest the agent keeps a raised level (it falls back by itself). */
const LONGEST_MS = 3_600_000;

/** Raises the level of the agent's log, and waits for what is to be seen. */
async function watch(context: Context, client: Client, ms: number): Promise<void> {
  const seconds = Math.max(1, Math.round(ms / 1000));
  try {
    await client.put('/v1/log-level', { body: { level: 'debug', seconds: Math.min(seconds + 5, 3_600) } });
  } catch (error) {
    context.terminal.note(`Note: the log level could not be raised: ${toFailure(error).message}`);
  }
  for (let left = seconds; left > 0; left--) {
    context.terminal.status(`watching; reproduce the problem now ... ${left} s`);
    await sleep(Math.min(1_000, ms));
  }
  context.terminal.status('');
}

async function clientHere(context: Context): Promise<Client> {
  if (context.url !== undefined) return context.client();
  const { settings } = readAgentSettings(context.env);
  const scheme = settings?.tls === undefined ? 'http' : 'https';
  return context.clientFor(`${scheme}://localhost:${settings?.apiPort ?? 8080}`);
}

export const bundle: Run = async (context, input) => {
  const now = context.clock.now();
  const stamp = new Date(now).toISOString().slice(0, 19).replaceAll(/[:T-]/g, '');
  const file = resolve(input.text('file') ?? `arctic-debug-${stamp}.tar.gz`);
  const duration = input.text('for');
  const ms = duration === undefined ? undefined : parseDuration(duration);
  if (duration !== undefined && (ms === undefined || ms <= 0 || ms > LONGEST_MS))
    throw usageFailure(`--for must be a time of up to an hour such as 5m, not '${duration}'.`);

  const read = readAgentSettings(context.env);
  const local = context.url === undefined || isThisHost(context.url);
  const client = await clientHere(context);
  if (ms !== undefined) await watch(context, client, ms);

  const pieces: Piece[] = [];
  const gaps: string[] = [];
  if (local) pieces.push(...(await hostPieces(context, read)));
  pieces.push(...(await agentPieces(context, client)));
  try {
    const report = await examine(context, { full: false, forwarded: false });
    pieces.push({ name: 'doctor.txt', text: renderReport(report, createStyle(false), 100) });
    pieces.push({ name: 'doctor.json', text: `${JSON.stringify(reportResource(report), null, 2)}\n` });
  } catch (error) {
    gaps.push(`doctor: ${toFailure(error).message}`);
  }
  const tokens = [input.text('token'), input.text('recovery-token')].filter((one) => one !== undefined);
  // Read last: a token that was fetched for the bundle itself is among them.
  const scrub = createScrub([...(await secretsOfHost(context, read)), ...tokens]);
  const mtime = Math.floor(now / 1000);
  const directory = `arctic-debug-${stamp}`;
  await writeArchive(
    file,
    pieces.map(({ name, text }) => ({
      name: `${directory}/${name}`,
      mode: 0o600,
      mtime,
      content: Buffer.from(scrub(text), 'utf8'),
    })),
  );
  await context.output.fields({ file, pieces: pieces.map(({ name }) => name), gaps }, [
    ['Bundle', file],
    ['Holds', `${pieces.length} files: ${pieces.map(({ name }) => name).join(', ')}`],
  ]);
  context.terminal.note(
    'Secrets are removed; addresses and names are not. Look through it before you send it.',
  );
  return EXIT.success;
};
