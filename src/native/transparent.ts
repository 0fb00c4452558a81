/**
 * TCP sockets Node cannot make: listeners that accept traffic for any address (tproxy) and dialers that speak from
 * any address. They are handed to Node as descriptors:
 * - listener: `net.createServer().listen({ fd })` calls listen(2) itself and owns the descriptor afterwards;
 *   an accepted socket's local address is the original destination;
 * - dialer: `new net.Socket({ fd, manualStart: true, allowHalfOpen: true }).connect({ host, port })`.
 *   `manualStart` keeps Node from reading on the socket before it is connected.
 */
import { isIPv6 } from 'node:net';
import { type NativeAddon, SystemCallError, systemCall } from './addon.ts';
import { hostInt, readHostInt32 } from './byte-order.ts';
import { AF_INET, AF_INET6, encodeSockaddr } from './sockaddr.ts';

const SOCK_STREAM = 1;
const SOCK_NONBLOCK = 0o4000;
const SOL_IP = 0;
const SOL_SOCKET = 1;
const IPPROTO_TCP = 6;
const SOL_IPV6 = 41;
const SO_REUSEADDR = 2;
const SO_SNDBUF = 7;
const SO_RCVBUF = 8;
const SO_SNDBUFFORCE = 32;
const SO_RCVBUFFORCE = 33;
const SO_MARK = 36;
const SO_REUSEPORT = 15;
const IP_TRANSPARENT = 19;
const IP_BIND_ADDRESS_NO_PORT = 24;
const IPV6_V6ONLY = 26;
const IPV6_TRANSPARENT = 75;
const TCP_CONGESTION = 13;
const TCP_USER_TIMEOUT = 18;
const TCP_NOTSENT_LOWAT = 25;
const TCP_CA_NAME_MAX = 16;
const EPERM = 1;

export interface TcpSocketOptions {
  /** SO_MARK, for the policy rules that keep the agent's own traffic out of its own redirection. */
  readonly mark?: number;
  /** TCP_CONGESTION; accepted sockets inherit a listener's. Read the one in force with `readCongestionControl`. */
  readonly congestionControl?: string;
  /** Bytes; past net.core.wmem_max with CAP_NET_ADMIN, else as far as that allows. The kernel doubles it. */
  readonly sendBuffer?: number;
  readonly receiveBuffer?: number;
  /** TCP_NOTSENT_LOWAT in bytes: how much may wait unsent before the socket stops being writable. */
  readonly notSentLowWater?: number;
  /** TCP_USER_TIMEOUT in milliseconds. */
  readonly userTimeout?: number;
  /** Open the socket inside this network namespace (tests, labs). */
  readonly netnsPath?: string;
}

export interface ListenerOptions extends TcpSocketOptions {
  /** `0.0.0.0` or `::` take traffic for every address; `::` is IPv6 only. */
  readonly address: string;
  readonly port: number;
  readonly transparent?: boolean;
  readonly reusePort?: boolean;
}

export interface DialerOptions extends TcpSocketOptions {
  /** Speak from this address, also when no interface has it. */
  readonly sourceAddress: string;
  /** Keep the client's port; without it the kernel chooses at connect, per destination. */
  readonly sourcePort?: number;
  readonly transparent?: boolean;
}

/** A bound, non-blocking TCP socket that does not listen yet. Throws SystemCallError. */
export function openListener(addon: NativeAddon, options: ListenerOptions): number {
  return open(addon, options, options.address, (fd, subject) => {
    setInt(addon, fd, SOL_SOCKET, SO_REUSEADDR, 1, `SO_REUSEADDR ${subject}`);
    if (options.reusePort === true) setInt(addon, fd, SOL_SOCKET, SO_REUSEPORT, 1, `SO_REUSEPORT ${subject}`);
    if (options.transparent === true) setTransparent(addon, fd, options.address);
    systemCall(
      'bind',
      addon.bind(fd, encodeSockaddr(options.address, options.port)),
      `${subject} port ${options.port}`,
    );
  });
}

/** A bound, unconnected, non-blocking TCP socket. Throws SystemCallError. */
export function openDialer(addon: NativeAddon, options: DialerOptions): number {
  return open(addon, options, options.sourceAddress, (fd, subject) => {
    if (options.transparent === true) setTransparent(addon, fd, options.sourceAddress);
    if (options.sourcePort === undefined) {
      // Otherwise bind would reserve one port for all destinations: 28,000 flows per source at most.
      setInt(addon, fd, SOL_IP, IP_BIND_ADDRESS_NO_PORT, 1, `IP_BIND_ADDRESS_NO_PORT ${subject}`);
    } else {
      setInt(addon, fd, SOL_SOCKET, SO_REUSEADDR, 1, `SO_REUSEADDR ${subject}`);
    }
    systemCall(
      'bind',
      addon.bind(fd, encodeSockaddr(options.sourceAddress, options.sourcePort ?? 0)),
      subject,
    );
  });
}

/** Applies the options to a socket that exists already, such as an accepted one. Throws SystemCallError. */
export function tuneSocket(addon: NativeAddon, fd: number, options: TcpSocketOptions): void {
  if (options.mark !== undefined) setInt(addon, fd, SOL_SOCKET, SO_MARK, options.mark, 'SO_MARK');
  if (options.congestionControl !== undefined) {
    const name = Buffer.from(options.congestionControl, 'ascii');
    systemCall(
      'setsockopt',
      addon.setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, name),
      `TCP_CONGESTION ${name}`,
    );
  }
  if (options.sendBuffer !== undefined) setBuffer(addon, fd, SO_SNDBUFFORCE, SO_SNDBUF, options.sendBuffer);
  if (options.receiveBuffer !== undefined)
    setBuffer(addon, fd, SO_RCVBUFFORCE, SO_RCVBUF, options.receiveBuffer);
  if (options.notSentLowWater !== undefined) {
    setInt(addon, fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, options.notSentLowWater, 'TCP_NOTSENT_LOWAT');
  }
  if (options.userTimeout !== undefined) {
    setInt(addon, fd, IPPROTO_TCP, TCP_USER_TIMEOUT, options.userTimeout, 'TCP_USER_TIMEOUT');
  }
}

/** SO_MARK of a socket; an accepted one inherits its listener's unless net.ipv4.tcp_fwmark_accept is set. */
export function readMark(addon: NativeAddon, fd: number): number {
  return getInt(addon, fd, SOL_SOCKET, SO_MARK, 'SO_MARK') >>> 0;
}

/** The congestion control in force, such as `bbr`. */
export function readCongestionControl(addon: NativeAddon, fd: number): string {
  const name = Buffer.alloc(TCP_CA_NAME_MAX);
  const length = systemCall(
    'getsockopt',
    addon.getsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, name),
    'TCP_CONGESTION',
  );
  const end = name.indexOf(0);
  return name.toString('ascii', 0, end < 0 ? length : end);
}

function open(
  addon: NativeAddon,
  options: TcpSocketOptions,
  address: string,
  prepare: (fd: number, subject: string) => void,
): number {
  const domain = isIPv6(address) ? AF_INET6 : AF_INET;
  const type = SOCK_STREAM | SOCK_NONBLOCK;
  const fd =
    options.netnsPath === undefined
      ? systemCall('socket', addon.socket(domain, type, 0))
      : systemCall('socket', addon.socketInNamespace(options.netnsPath, domain, type, 0), options.netnsPath);
  try {
    if (domain === AF_INET6) setInt(addon, fd, SOL_IPV6, IPV6_V6ONLY, 1, 'IPV6_V6ONLY');
    tuneSocket(addon, fd, options);
    prepare(fd, address);
  } catch (error) {
    addon.close(fd);
    throw error;
  }
  return fd;
}

function setTransparent(addon: NativeAddon, fd: number, address: string): void {
  if (isIPv6(address)) setInt(addon, fd, SOL_IPV6, IPV6_TRANSPARENT, 1, 'IPV6_TRANSPARENT');
  else setInt(addon, fd, SOL_IP, IP_TRANSPARENT, 1, 'IP_TRANSPARENT');
}

function setBuffer(addon: NativeAddon, fd: number, force: number, ordinary: number, bytes: number): void {
  const result = addon.setsockopt(fd, SOL_SOCKET, force, hostInt(bytes));
  if (result === -EPERM) setInt(addon, fd, SOL_SOCKET, ordinary, bytes, 'socket buffer');
  else if (result < 0) throw new SystemCallError('setsockopt', -result, 'socket buffer');
}

function setInt(
  addon: NativeAddon,
  fd: number,
  level: number,
  option: number,
  value: number,
  subject: string,
): void {
  systemCall('setsockopt', addon.setsockopt(fd, level, option, hostInt(value)), subject);
}

function getInt(addon: NativeAddon, fd: number, level: number, option: number, subject: string): number {
  const value = Buffer.alloc(4);
  systemCall('getsockopt', addon.getsockopt(fd, level, option, value), subject);
  return readHostInt32(value, 0);
}
