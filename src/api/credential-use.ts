import type { Logger } from 'pino';
import type { ClientId } from '../../events/brand.ts';
import type { Clock } from '../../events/clock.ts';
import type { AnyEvent } from '../../events/envelope.ts';
import { timeOf } from '../../events/hlc.ts';
import type { Log } from '../../events/log-contract.ts';
import type { Executor } from '../commands/execute.ts';

/** An event an hour and client is enough to see a forgotten credential, and an idle cluster writes none. */
const RECORD_EVERY_MS = 3_600_000;

/** When each client was last seen on this host. */
export interface CredentialUse {
  lastUsedAt(client: ClientId): string | null;
  /** Notes a request made with a token; memory only. */
  seen(client: ClientId): void;
  /** Notes that a token was obtained; records it as a local event at most once an hour. */
  note(client: ClientId, request: { readonly address: string; readonly correlationId: string }): void;
}

export function createCredentialUse(deps: {
  readonly clock: Clock;
  readonly log: Log;
  readonly executor: Executor;
  readonly logger: Logger;
}): CredentialUse {
  const { clock, log, executor, logger } = deps;
  /** Milliseconds since the epoch. Filled on first use: the log is not read for it at start. */
  let used: Map<ClientId, number> | undefined;
  const recorded = new Map<ClientId, number>();

  const load = (): Map<ClientId, number> => {
    if (used !== undefined) return used;
    used = new Map();
    for (const page of log.pages({ types: ['credential.used'], stream: 'local' })) {
      for (const event of page as readonly AnyEvent[]) {
        if (event.type !== 'credential.used') continue;
        const client = event.data.client_id as ClientId;
        used.set(client, timeOf(event.hlc));
        recorded.set(client, timeOf(event.hlc));
      }
    }
    return used;
  };

  return {
    lastUsedAt(client) {
      const at = load().get(client);
      return at === undefined ? null : new Date(at).toISOString();
    },
    seen(client) {
      load().set(client, clock.now());
    },
    note(client, { address, correlationId }) {
      const now = clock.now();
      load().set(client, now);
      if (now - (recorded.get(client) ?? Number.NEGATIVE_INFINITY) < RECORD_EVERY_MS) return;
      recorded.set(client, now);
      try {
        executor.execute({ actor: { kind: 'client', id: client, address }, correlationId }, () => ({
          events: [{ type: 'credential.used', entity: client, data: { client_id: client } }],
          result: null,
        }));
      } catch (error) {
        // A full disk must not lock the operator out; the next hour tries again.
        logger.warn({ err: error, client_id: client }, 'the use of a credential was not recorded');
      }
    },
  };
}
