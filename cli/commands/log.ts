import { join } from 'node:path';
import { EXIT } from '../../events/errors.ts';
import type { Verification } from '../../events/verification.ts';
import { readAgentSettings } from '../agent-settings.ts';
import type { Run } from '../command.ts';
import type { Context } from '../context.ts';
import { configurationFailure } from '../failure.ts';

/** How often progress is written to a terminal, ms. */
const PROGRESS_MS = 500;

/** A line that replaces itself; nothing where nobody watches. */
function progress(context: Context): { at(position: number): void; end(): void } {
  const watched = context.terminal.stderrIsTerminal;
  let next = 0;
  let shown = false;
  return {
    at(position) {
      if (!watched || context.clock.monotonic() < next) return;
      next = context.clock.monotonic() + PROGRESS_MS;
      shown = true;
      process.stderr.write(`\r${position} events verified`);
    },
    end() {
      if (shown) process.stderr.write('\r\x1b[K');
    },
  };
}

const plain = (path: string, peer: string, found: Verification) => ({
  path,
  peer_id: peer,
  scope: 'full',
  ok: true,
  events: found.events,
  transactions: found.transactions,
  checkpoints: found.checkpoints,
  chains: found.chains.map(({ origin, stream, seq, hash }) => ({ origin, stream, seq, hash })),
  key_conflicts: found.keyConflicts.map(({ peerId, position, publicKey }) => ({
    peer_id: peerId,
    position,
    public_key: publicKey,
  })),
});

/** `arctic log verify`: needs no agent, and does no harm to one that runs. Exit code 3 when the log does not verify. */
export const verify: Run = async (context, input) => {
  const path = input.text('db') ?? join(readAgentSettings(context.env).dataDir, 'arctic.db');
  const [{ openLogReader }, { describeFault, verifyLog }, { damaged }] = await Promise.all([
    import('../../events/log.ts'),
    import('../../events/verify.ts'),
    import('../../events/log-errors.ts'),
  ]);
  if (!input.flag('full')) {
    const log = openLogReader({ path, verify: 'tail' });
    const { head, origin } = log;
    log.close();
    await context.output.either({ path, peer_id: origin, scope: 'tail', ok: true, events: head }, () =>
      [
        `${path} (${origin}) verifies: the newest events, the signature at the end of every chain and every checkpoint.\n`,
        `${head} events; --full checks each of them.\n`,
      ].join(''),
    );
    return EXIT.success;
  }
  const line = progress(context);
  const found = verifyLog({ path, onProgress: line.at });
  line.end();
  const { fault } = found;
  if (fault !== undefined) {
    const { position = null, id = null, origin = null, stream = null, seq = null, reason } = fault;
    const said = damaged(path, describeFault(fault), fault.position).message;
    if (context.output.format !== 'table')
      await context.output.either(
        { path, scope: 'full', ok: false, position, id, origin, stream, seq, reason },
        () => '',
      );
    throw configurationFailure(said);
  }
  const log = openLogReader({ path });
  const peer = log.origin;
  log.close();
  await context.output.either(plain(path, peer, found), () =>
    [
      `${path} (${peer}) verifies: ${found.events} events in ${found.chains.length} chains, ` +
        `${found.transactions} signatures, ${found.checkpoints} checkpoints.\n`,
    ].join(''),
  );
  for (const { peerId, position } of found.keyConflicts)
    context.terminal.note(
      `Warning: the event at position ${position} admits ${peerId} with another key than its events are signed with.`,
    );
  return EXIT.success;
};
