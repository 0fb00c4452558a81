import type { Socket } from 'node:net';
import type { Endpoint } from './frames.ts';

/** An open listener. */
export interface Listener {
  readonly address: string;
  readonly port: number;
  /** Stops accepting and resolves when the descriptor is closed; accepted sockets live on. */
  close(): Promise<void>;
}

export interface DestinationDial {
  readonly destination: Endpoint;
  /** Given for a transparent dial: speak from this address, and from this port unless it is 0. */
  readonly source: Endpoint | undefined;
}

/**
 * The sockets the relay works with; every system call of the TypeScript relay is behind this.
 * Sockets allow half-open connections, have TCP_NODELAY, and carry the agent's own mark where they dial.
 */
export interface Sockets {
  /** Listeners for redirected connections, one for each address family the host has. Accepted sockets are paused. */
  listenCaptured(port: number, accept: (socket: Socket) => void): Promise<readonly Listener[]>;
  /** fwmark the connection was captured with; 0 for one that came directly. */
  markOf(socket: Socket): number;
  /** Where the client wanted to go. */
  destinationOf(socket: Socket): Endpoint;
  /** True for an address of this host. */
  isLocal(address: string): boolean;
  listenCarriers(port: number, accept: (socket: Socket) => void): Promise<readonly Listener[]>;
  /** Starts to connect; the socket tells by `connect` or `error`. Rejects when there is no address to try. */
  dialCarrier(host: string, port: number): Promise<Socket>;
  /** Starts to connect. Throws an error with an errno `code` when the kernel refuses the socket. */
  dialDestination(dial: DestinationDial): Socket;
  /** Closes with RST instead of FIN, also when a FIN is already under way. */
  reset(socket: Socket): void;
  /**
   * SO_ERROR: 0 for none. libuv reports a reset as an orderly end when data came right before it (POLLHUP after a
   * partial read), so an end has to be asked about.
   */
  pendingError(socket: Socket): number;
  /** Of a carrier; undefined when it cannot be told. */
  congestionControlOf(socket: Socket): string | undefined;
}
