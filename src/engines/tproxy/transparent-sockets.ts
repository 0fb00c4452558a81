/** The real sockets of the TypeScript relay, made with the native add-on and handed to Node as descriptors. */
import { lookup } from 'node:dns/promises';
import { createServer, isIPv6, type Server, Socket } from 'node:net';
import { networkInterfaces } from 'node:os';
import type { NativeAddon } from '../../native/addon.ts';
import { readHostInt32 } from '../../native/byte-order.ts';
import { openDialer, readCongestionControl, readMark } from '../../native/transparent.ts';
import { BACKLOG, type BoundListener, bindCaptured, bindCarriers } from './bound-listeners.ts';
import { type CarrierTuningOptions, createCarrierTuning } from './carrier-tuning.ts';
import { prepareLocal, setResetOnClose } from './local-sockets.ts';
import type { Listener, Sockets } from './sockets.ts';

const SOL_SOCKET = 1;
const SO_ERROR = 4;
const KEEPALIVE_MS = 10_000;

export interface TransparentSocketsOptions extends CarrierTuningOptions {
  /** False where redirected connections need no IP_TRANSPARENT (tests on loopback). Default true. */
  readonly transparent?: boolean;
}

export function createTransparentSockets(addon: NativeAddon, options: TransparentSocketsOptions): Sockets {
  const transparent = options.transparent ?? true;
  const carrier = createCarrierTuning(options);

  async function listenBoth(
    bound: readonly BoundListener[],
    accept: (socket: Socket) => void,
    pauseOnConnect: boolean,
  ): Promise<readonly Listener[]> {
    const listeners: Listener[] = [];
    try {
      for (const one of bound) listeners.push(await listen(one, accept, pauseOnConnect));
    } catch (error) {
      for (const one of bound.slice(listeners.length + 1)) addon.close(one.fd);
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

  /** From then on its FIN has left, and was meant. */
  function resetUntilFinished(socket: Socket): void {
    socket.once('finish', () => {
      const fd = openDescriptor(socket);
      if (fd !== undefined) setResetOnClose(addon, fd, false);
    });
  }

  return {
    async listenCaptured(port, accept) {
      const bound = await bindCaptured(addon, port, transparent);
      return listenBoth(
        bound,
        (socket) => {
          resetUntilFinished(socket);
          accept(socket);
        },
        true,
      );
    },
    markOf: (socket) => readMark(addon, descriptor(socket)),
    destinationOf: (socket) => ({ address: socket.localAddress ?? '', port: socket.localPort ?? 0 }),
    isLocal: (address) =>
      Object.values(networkInterfaces()).some((all) => all?.some((one) => one.address === address)),
    listenCarriers: (port, accept) =>
      listenBoth(
        bindCarriers(addon, port, carrier),
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
        carrier.open((tcp) => openDialer(addon, { sourceAddress, ...tcp })),
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
      prepareLocal(addon, fd);
      const socket = dial(fd, destination.address, destination.port);
      resetUntilFinished(socket);
      return socket;
    },
    reset(socket) {
      const fd = openDescriptor(socket);
      // Not resetAndDestroy: libuv refuses it (EINVAL) once a shutdown is under way, and Node then leaks the handle.
      if (fd !== undefined) setResetOnClose(addon, fd, true);
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
  { fd, address, port }: BoundListener,
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
      resolve({
        address,
        port,
        // Not the callback of close(): that waits for every accepted connection to end.
        close: async () => {
          server.close();
        },
      });
    });
  });
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
