/** The real sockets of the TypeScript relay, made with the native add-on and handed to Node as descriptors. */
import { lookup } from 'node:dns/promises';
import { readFile, writeFile } from 'node:fs/promises';
import { createServer, isIPv6, type Server, Socket } from 'node:net';
import { networkInterfaces } from 'node:os';
import { type NativeAddon, SystemCallError } from '../../native/addon.ts';
import { readHostInt32, writeHost32 } from '../../native/byte-order.ts';
import {
  openDialer,
  openListener,
  readCongestionControl,
  readMark,
  type TcpSocketOptions,
} from '../../native/transparent.ts';
import type { Listener, Sockets } from './sockets.ts';

export interface TransparentSocketsOptions {
  /** SO_MARK of everything the relay dials, and of its carriers: never captured again. */
  readonly ownMark: number;
  /** TCP_CONGESTION of carriers, used where the kernel has it. Default `bbr`. */
  readonly congestionControl?: string;
  /** Send and receive buffer of carriers in bytes. Default 16 MB: a lossy link of 200 Mbit/s and 100 ms needs it. */
  readonly carrierBuffer?: number;
  /** TCP_NOTSENT_LOWAT of carriers in bytes. Default 1 MB; without it large buffers were slower and unsteady. */
  readonly notSentLowWater?: number;
  /** Milliseconds without an acknowledgement after which a carrier counts as dead. Default 30,000. */
  readonly userTimeout?: number;
  /** False where redirected connections need no IP_TRANSPARENT (tests on loopback). Default true. */
  readonly transparent?: boolean;
}

/** Without it accepted sockets carry their listener's mark, not the packet's (Documentation/networking/ip-sysctl). */
const FWMARK_ACCEPT = '/proc/sys/net/ipv4/tcp_fwmark_accept';
const BACKLOG = 16_384;
const SOL_SOCKET = 1;
const SO_ERROR = 4;
const SO_LINGER = 13;
const KEEPALIVE_MS = 10_000;

export function createTransparentSockets(addon: NativeAddon, options: TransparentSocketsOptions): Sockets {
  const transparent = options.transparent ?? true;
  let congestionControl: string | undefined = options.congestionControl ?? 'bbr';
  const carrierOptions = (): TcpSocketOptions => ({
    mark: options.ownMark,
    sendBuffer: options.carrierBuffer ?? 16 * 1024 * 1024,
    receiveBuffer: options.carrierBuffer ?? 16 * 1024 * 1024,
    notSentLowWater: options.notSentLowWater ?? 1024 * 1024,
    userTimeout: options.userTimeout ?? 30_000,
    ...(congestionControl === undefined ? {} : { congestionControl }),
  });

  /** Opens a carrier socket; a kernel without the wanted congestion control keeps its default from then on. */
  function openCarrier(open: (tcp: TcpSocketOptions) => number): number {
    try {
      return open(carrierOptions());
    } catch (error) {
      if (congestionControl === undefined || !isRefusedCongestionControl(error)) throw error;
      congestionControl = undefined;
      return open(carrierOptions());
    }
  }

  async function listenBoth(
    port: number,
    open: (address: string, port: number) => number,
    accept: (socket: Socket) => void,
    pauseOnConnect: boolean,
  ): Promise<readonly Listener[]> {
    const listeners: Listener[] = [];
    try {
      for (const address of ['0.0.0.0', '::']) {
        const chosen = listeners[0]?.port ?? port;
        let fd: number;
        try {
          fd = open(address, chosen);
        } catch (error) {
          if (address === '::' && isWithoutIpv6(error)) break;
          throw error;
        }
        listeners.push(await listen(fd, address, accept, pauseOnConnect));
      }
    } catch (error) {
      await Promise.all(listeners.map((listener) => listener.close()));
      throw error;
    }
    return listeners;
  }

  function dial(fd: number, host: string, port: number): Socket {
    let socket: Socket;
    try {
      // `manualStart` keeps Node from reading before the connection stands; its type does not list it.
      socket = new Socket({ fd, allowHalfOpen: true, ...{ manualStart: true } });
    } catch (error) {
      addon.close(fd);
      throw error;
    }
    socket.setNoDelay(true);
    return socket.connect({ host, port });
  }

  return {
    async listenCaptured(port, accept) {
      if (transparent) await acceptMarks();
      return listenBoth(
        port,
        (address, chosen) => openListener(addon, { address, port: chosen, transparent }),
        accept,
        true,
      );
    },
    markOf: (socket) => readMark(addon, descriptor(socket)),
    destinationOf: (socket) => ({ address: socket.localAddress ?? '', port: socket.localPort ?? 0 }),
    isLocal: (address) =>
      Object.values(networkInterfaces()).some((all) => all?.some((one) => one.address === address)),
    listenCarriers: (port, accept) =>
      listenBoth(
        port,
        (address, chosen) => openCarrier((tcp) => openListener(addon, { address, port: chosen, ...tcp })),
        (socket) => {
          socket.setKeepAlive(true, KEEPALIVE_MS);
          accept(socket);
        },
        false,
      ),
    async dialCarrier(host, port) {
      const { address } = await lookup(host);
      const sourceAddress = isIPv6(address) ? '::' : '0.0.0.0';
      const socket = dial(
        openCarrier((tcp) => openDialer(addon, { sourceAddress, ...tcp })),
        address,
        port,
      );
      socket.setKeepAlive(true, KEEPALIVE_MS);
      return socket;
    },
    dialDestination({ destination, source }) {
      const fd = openDialer(addon, {
        sourceAddress: source?.address ?? (isIPv6(destination.address) ? '::' : '0.0.0.0'),
        transparent: source !== undefined && transparent,
        mark: options.ownMark,
        ...(source === undefined || source.port === 0 ? {} : { sourcePort: source.port }),
      });
      return dial(fd, destination.address, destination.port);
    },
    reset(socket) {
      const fd = openDescriptor(socket);
      // Not resetAndDestroy: libuv refuses it (EINVAL) once a shutdown is under way, and Node then leaks the handle.
      if (fd !== undefined) addon.setsockopt(fd, SOL_SOCKET, SO_LINGER, lingerZero());
      socket.destroy();
    },
    pendingError(socket) {
      const fd = openDescriptor(socket);
      if (fd === undefined) return 0;
      const value = Buffer.alloc(4);
      return addon.getsockopt(fd, SOL_SOCKET, SO_ERROR, value) < 0 ? 0 : readHostInt32(value, 0);
    },
    congestionControlOf(socket) {
      const fd = openDescriptor(socket);
      return fd === undefined ? undefined : readCongestionControl(addon, fd);
    },
  };
}

function listen(
  fd: number,
  address: string,
  accept: (socket: Socket) => void,
  pauseOnConnect: boolean,
): Promise<Listener> {
  return new Promise((resolve, reject) => {
    const server: Server = createServer({ allowHalfOpen: true, noDelay: true, pauseOnConnect }, accept);
    server.once('error', reject);
    server.listen({ fd, backlog: BACKLOG }, () => {
      server.removeListener('error', reject);
      // An error of accept(2), such as EMFILE, concerns one connection; the listener goes on.
      server.on('error', () => undefined);
      const bound = server.address();
      const port = typeof bound === 'object' && bound !== null ? bound.port : 0;
      resolve({
        address,
        port,
        close: () =>
          new Promise((closed) => {
            server.close(() => closed());
          }),
      });
    });
  });
}

async function acceptMarks(): Promise<void> {
  if ((await readFile(FWMARK_ACCEPT, 'ascii')).trim() !== '1') await writeFile(FWMARK_ACCEPT, '1\n');
}

function isRefusedCongestionControl(error: unknown): boolean {
  return (
    error instanceof SystemCallError &&
    error.message.includes('TCP_CONGESTION') &&
    (error.code === 'ENOENT' || error.code === 'EPERM')
  );
}

function isWithoutIpv6(error: unknown): boolean {
  return (
    error instanceof SystemCallError && (error.code === 'EAFNOSUPPORT' || error.code === 'EADDRNOTAVAIL')
  );
}

/** struct linger { int l_onoff = 1; int l_linger = 0; } */
function lingerZero(): Buffer {
  const value = Buffer.alloc(8);
  writeHost32(value, 1, 0);
  return value;
}

/** Node has no public way to the descriptor of a socket; `_handle.fd` has been there since Node 0.x. */
function openDescriptor(socket: Socket): number | undefined {
  const handle = (socket as { readonly _handle?: { readonly fd?: number } | null })._handle;
  return handle?.fd !== undefined && handle.fd >= 0 ? handle.fd : undefined;
}

function descriptor(socket: Socket): number {
  const fd = openDescriptor(socket);
  if (fd === undefined) throw new Error('the socket is closed already');
  return fd;
}
