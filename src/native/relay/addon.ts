/** The typed loader of the native relay (`build/Release/arctic_relay.node`), a binary of its own beside the add-on. */
import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** Numbers are n >= 0 or -errno. */
export interface RelayAddon {
  /** Starts a relay's thread; answers its slot. */
  relayStart(): number;
  /** Readable when there are events. Owned by the relay: poll it, do not close it. */
  relayEventFd(slot: number): number;
  /** One command as `native-commands.ts` encodes it; -EINVAL when it does not decode. */
  relayCommand(slot: number, command: Uint8Array): number;
  /** Lines of tab-separated fields since the last call. */
  relayEvents(slot: number): string;
  /** All counters, as lines of tab-separated fields. */
  relayStats(slot: number): string;
  /** Joins the thread and closes every descriptor it has. */
  relayStop(slot: number): number;
}

const BUILT_AT = join('src', 'native', 'build', 'Release', 'arctic_relay.node');

/** Undefined with the reason when it is not built or does not load: the TypeScript relay takes over then. */
export function loadRelayAddon(
  path = process.env['ARCTIC_RELAY_ADDON'] ?? findRelay(),
): { readonly addon: RelayAddon } | { readonly addon: undefined; readonly reason: string } {
  if (path === undefined) return { addon: undefined, reason: 'the native relay is not built' };
  try {
    return { addon: createRequire(import.meta.url)(path) as RelayAddon };
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    return { addon: undefined, reason: `the native relay ${path} does not load: ${reason}` };
  }
}

function findRelay(): string | undefined {
  let directory = dirname(fileURLToPath(import.meta.url));
  for (;;) {
    const candidate = join(directory, BUILT_AT);
    if (existsSync(candidate)) return candidate;
    const parent = dirname(directory);
    if (parent === directory) return undefined;
    directory = parent;
  }
}
