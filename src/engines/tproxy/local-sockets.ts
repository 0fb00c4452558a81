/** What connections to clients and destinations are told before they can be made, in both relays. */
import type { NativeAddon } from '../../native/addon.ts';
import { hostInt, writeHost32 } from '../../native/byte-order.ts';

const SOL_SOCKET = 1;
const SO_OOBINLINE = 10;
const SO_LINGER = 13;

/**
 * Such a connection is reset when its descriptor is closed, also by a process that is killed: a FIN would tell a client or a
 * server that what it has is all there is. struct linger { int l_onoff; int l_linger = 0; }
 */
export function setResetOnClose(addon: NativeAddon, fd: number, reset: boolean): void {
  const value = Buffer.alloc(8);
  writeHost32(value, reset ? 1 : 0, 0);
  addon.setsockopt(fd, SOL_SOCKET, SO_LINGER, value);
}

/** For a socket that dials, or a listener before it listens: what it accepts inherits both. */
export function prepareLocal(addon: NativeAddon, fd: number): void {
  setResetOnClose(addon, fd, true);
  // A byte sent as urgent stays in its place among the others (RFC 6093 section 3.1).
  addon.setsockopt(fd, SOL_SOCKET, SO_OOBINLINE, hostInt(1));
}
