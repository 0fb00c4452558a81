/**
 * The typed loader of the native add-on (`build/Release/arctic_native.node`). Calls are bare system calls: they
 * answer n >= 0 or -errno and never throw for a refusal of the kernel; `systemCall` turns that into an Error.
 */
import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { getSystemErrorName } from 'node:util';

/** A subset of struct tcp_info (linux/tcp.h). A field the running kernel does not know is 0. */
export interface TcpInfo {
  /** TCP_ESTABLISHED is 1 (net/tcp_states.h). */
  readonly state: number;
  readonly rttMicroseconds: number;
  readonly rttVarianceMicroseconds: number;
  readonly minRttMicroseconds: number;
  readonly sendMss: number;
  /** In segments. */
  readonly sendCongestionWindow: number;
  readonly unackedSegments: number;
  readonly lostSegments: number;
  readonly totalRetransmits: number;
  readonly bytesAcked: number;
  readonly bytesReceived: number;
  readonly bytesSent: number;
  readonly bytesRetransmitted: number;
  readonly notSentBytes: number;
  readonly deliveryRateBytesPerSecond: number;
  readonly pacingRateBytesPerSecond: number;
}

export const READABLE = 1;
export const WRITABLE = 2;

/**
 * `status` 0: `events` are ready. `status` < 0: an error the descriptor reported (-ENOBUFS for a netlink overrun);
 * the watch goes on when `events` is not 0, otherwise it has ended and should be stopped.
 */
export type PollCallback = (status: number, events: number) => void;

export interface NativeAddon {
  /** SOCK_CLOEXEC is always added to `type`. */
  socket(domain: number, type: number, protocol: number): number;
  bind(fd: number, sockaddr: Uint8Array): number;
  connect(fd: number, sockaddr: Uint8Array): number;
  listen(fd: number, backlog: number): number;
  /** Fills `sockaddr` and answers its length. */
  getsockname(fd: number, sockaddr: Uint8Array): number;
  getpeername(fd: number, sockaddr: Uint8Array): number;
  setsockopt(fd: number, level: number, option: number, value: Uint8Array): number;
  /** Fills `value` and answers its length. */
  getsockopt(fd: number, level: number, option: number, value: Uint8Array): number;
  /** SO_ATTACH_FILTER; `program` is an array of struct sock_filter (8 bytes each, host byte order). */
  attachFilter(fd: number, program: Uint8Array): number;
  send(fd: number, bytes: Uint8Array, flags: number): number;
  /** The same on the thread pool. `bytes` must not change and `fd` not be closed until it settles. */
  sendAsync(fd: number, bytes: Uint8Array, flags: number): Promise<number>;
  /** With MSG_TRUNC the answer is the datagram's true length. `sockaddr`, when given, receives the sender. */
  recv(fd: number, bytes: Uint8Array, flags: number, sockaddr?: Uint8Array): number;
  close(fd: number): number;
  tcpInfo(fd: number): TcpInfo | number;
  /** IFF_TUN | IFF_NO_PI | `flags`, non-blocking. */
  openTun(name: string, flags: number): number;
  /** Raises RLIMIT_NOFILE's soft limit to `wanted`, at most the hard one; answers the limit in force. */
  raiseFileLimit(wanted: number): number;
  interfaceIndex(name: string): number;
  /** A socket that lives in another network namespace (`/run/netns/x`); the calling thread is back on return. */
  socketInNamespace(netnsPath: string, domain: number, type: number, protocol: number): number;
  /** open(2) seen from another network namespace: how /proc/sys/net shows that namespace's keys. */
  openInNamespace(netnsPath: string, path: string, flags: number): number;
  /** Moves the calling thread for good. For a test's child process, never for the agent. */
  enterNamespace(netnsPath: string): number;
  /** Watches `fd`; answers a slot or -errno. Survives overruns; ends by `pollStop` or with the thread. */
  pollStart(fd: number, events: number, callback: PollCallback): number;
  /** Stops a watch; the descriptor stays open and may be closed after this. */
  pollStop(slot: number): number;
  /** Whether the watch keeps the process alive (1) or not (0). */
  pollRef(slot: number, keep: number): number;
  /**
   * Starts the tunnel's two threads over a bound UDP socket, of which they keep a descriptor of their own; a slot or -errno.
   * `aegis` 1 lets them agree on AEGIS-128L with peers that have it.
   */
  tunnelOpen(fd: number, aegis: 0 | 1): number;
  /** Ends the threads and wipes every key. */
  tunnelClose(slot: number): number;
  /** Makes an encoded snapshot (native/tunnel/table.h) what the threads work by; 0 or -errno, then nothing has changed. */
  tunnelApply(slot: number, snapshot: Uint8Array): number;
  /** Defines (native/tunnel/policy.h) or forgets a policy that later snapshots may name. */
  tunnelPolicy(slot: number, id: number, policy?: Uint8Array): number;
  /** Sends a datagram without records to a peer. */
  tunnelKeepalive(slot: number, peer: number): number;
  /** Writes the counters that have changed since it last did (engines/iptun/totals.ts) if they fit; answers the bytes they need. */
  tunnelRead(slot: number, totals: Uint8Array): number;
  /** Turns a TUN descriptor's checksum and segmentation offloads on; 1 with those of UDP, 0 without, or -errno. */
  tunnelPrepareTun(fd: number): number;
  /** Whether this processor has AES instructions. */
  tunnelHasAes(): number;
  /** 1 when this processor has the instructions of AEGIS-128L and works the example of its specification. */
  tunnelHasAegis(): number;
}

const BUILT_IN = join('src', 'native', 'build', 'Release');

/** The path of a built binary, looked for upwards from this module, so that `src/` and `dist/` both find it. */
function findBinary(file: string): string | undefined {
  let directory = dirname(fileURLToPath(import.meta.url));
  for (;;) {
    const candidate = join(directory, BUILT_IN, file);
    if (existsSync(candidate)) return candidate;
    const parent = dirname(directory);
    if (parent === directory) return undefined;
    directory = parent;
  }
}

/** Loads a binary of our build; throws a plain Error when it is not built or was built for another Node. */
export function loadBinary(file: string, path = findBinary(file)): unknown {
  if (path === undefined) throw new Error(`the native add-on ${file} is not built: run \`npm run build\``);
  try {
    return createRequire(import.meta.url)(path);
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new Error(`the native add-on ${path} does not load: ${reason}; rebuild it with \`npm run build\``, {
      cause,
    });
  }
}

const ADDON = 'arctic_native.node';

/** The path of the built add-on. */
export const findAddon = (): string | undefined => findBinary(ADDON);

/** Loads the add-on; throws as `loadBinary`. */
export const loadAddon = (): NativeAddon => loadBinary(ADDON) as NativeAddon;

/** A refused system call. `code` is the errno name, `errno` is positive. */
export class SystemCallError extends Error {
  readonly code: string;
  readonly errno: number;
  readonly syscall: string;

  constructor(syscall: string, errno: number, subject?: string) {
    const code = errnoName(errno);
    super(`${syscall}${subject === undefined ? '' : ` ${subject}`}: ${code}`);
    this.name = 'SystemCallError';
    this.code = code;
    this.errno = errno;
    this.syscall = syscall;
  }
}

/** Errno values the kernel answers that libuv has no name for (asm-generic/errno.h, include/linux/errno.h). */
const UNNAMED: Readonly<Record<number, string>> = { 62: 'ETIME', 85: 'ERESTART', 524: 'ENOTSUPP' };

/** `17` -> `EEXIST`. */
export function errnoName(errno: number): string {
  const unnamed = UNNAMED[errno];
  if (unnamed !== undefined) return unnamed;
  // libuv's own codes start at 3000.
  const name = errno > 0 && errno < 3000 ? getSystemErrorName(-errno) : '';
  return name.startsWith('E') ? name : `errno ${errno}`;
}

/** Passes n >= 0 through and throws SystemCallError for -errno. */
export function systemCall(name: string, result: number, subject?: string): number {
  if (result < 0) throw new SystemCallError(name, -result, subject);
  return result;
}
