import type { Kernel } from './contract.ts';

/**
 * How often what was read is read again, ms. Forwarding and reverse path filtering are announced by netconf notices; of the
 * rest (tcp_fwmark_accept, src_valid_mark, accept_ra) the kernel tells nobody. A read takes some 15 us.
 */
const POLL_MS = 1_000;

export interface WatchedSysctl {
  readonly sysctl: Kernel['sysctl'];
  /** Reads what has been asked for before; true when somebody else has changed any of it. */
  check(): Promise<boolean>;
  /** Checks every second, until the function it answers is called. */
  poll(onChange: () => void): () => void;
}

/** Keeps in mind what parameters were when they were last read or written here. */
export function watchSysctl(plain: Kernel['sysctl']): WatchedSysctl {
  const known = new Map<string, string>();

  function note(key: string, value: string | undefined): void {
    if (value === undefined) known.delete(key);
    else known.set(key, value);
  }

  async function check(): Promise<boolean> {
    let changed = false;
    for (const [key, before] of [...known]) {
      const now = await plain.read(key).catch(() => undefined);
      // One that went with its device is no news: the device is.
      if (now !== undefined && now !== before && known.get(key) === before) changed = true;
      if (known.get(key) === before) note(key, now);
    }
    return changed;
  }

  return {
    check,
    sysctl: {
      read: async (key) => {
        const value = await plain.read(key);
        note(key, value);
        return value;
      },
      write: async (key, value) => {
        await plain.write(key, value);
        note(key, await plain.read(key));
      },
    },
    poll(onChange) {
      const timer = setInterval(() => {
        void check().then((changed) => {
          if (changed) onChange();
        });
      }, POLL_MS);
      timer.unref();
      return () => clearInterval(timer);
    },
  };
}
