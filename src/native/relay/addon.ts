/** The typed loader of the native relay (`build/Release/arctic_relay.node`), a binary of its own beside the add-on. */
import { loadBinary } from '../addon.ts';

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
  /** The view of flows that the event `flows` announced with this token; once. */
  relayFlows(slot: number, token: number): string;
  /** Joins the thread and closes every descriptor it has. */
  relayStop(slot: number): number;
}

/** Without `addon` the reason: the TypeScript relay takes over then. */
export type LoadedRelay =
  | { readonly addon: RelayAddon }
  | { readonly addon: undefined; readonly reason: string };

/** Never throws. `path` is for a build somewhere else, such as one with a sanitizer. */
export function loadRelayAddon(path?: string): LoadedRelay {
  try {
    return { addon: loadBinary('arctic_relay.node', path) as RelayAddon };
  } catch (error) {
    return { addon: undefined, reason: error instanceof Error ? error.message : String(error) };
  }
}
