import { readdirSync, readFileSync, readlinkSync } from 'node:fs';

/** Who listens on a port of this host: proc(5), net/tcp and net/udp. */
export interface Listener {
  readonly port: number;
  readonly protocol: 'tcp' | 'udp';
  readonly inode: string;
}

/** TCP_LISTEN of include/net/tcp_states.h. */
const LISTEN = '0A';

/** Listening sockets in the text of a /proc/net/{tcp,tcp6,udp,udp6}; a UDP socket that is connected is none. */
export function parseSockets(text: string, protocol: 'tcp' | 'udp'): readonly Listener[] {
  return text
    .split('\n')
    .slice(1)
    .flatMap((line) => {
      const fields = line.trim().split(/\s+/);
      const [, local = '', remote = '', state] = fields;
      const port = Number.parseInt(local.split(':')[1] ?? '', 16);
      const waits = protocol === 'tcp' ? state === LISTEN : /:0000$/.test(remote);
      return waits && port > 0 ? [{ port, protocol, inode: fields[9] ?? '' }] : [];
    });
}

export function readListeners(): readonly Listener[] {
  return (['tcp', 'udp'] as const).flatMap((protocol) =>
    [protocol, `${protocol}6`].flatMap((name) => {
      try {
        return parseSockets(readFileSync(`/proc/net/${name}`, 'utf8'), protocol);
      } catch {
        // No IPv6, or no /proc.
        return [];
      }
    }),
  );
}

export interface Holder {
  readonly pid: number;
  readonly name: string;
}

/** The process that has a socket open; undefined when this user may not see it. */
export function holderOf(inode: string): Holder | undefined {
  const wanted = `socket:[${inode}]`;
  for (const entry of readdirSync('/proc')) {
    if (!/^\d+$/.test(entry)) continue;
    try {
      const holds = readdirSync(`/proc/${entry}/fd`).some((fd) => {
        try {
          return readlinkSync(`/proc/${entry}/fd/${fd}`) === wanted;
        } catch {
          return false;
        }
      });
      if (holds) return { pid: Number(entry), name: readFileSync(`/proc/${entry}/comm`, 'utf8').trim() };
    } catch {
      // It has ended, or is another user's.
    }
  }
  return undefined;
}
