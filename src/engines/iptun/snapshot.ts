/** Encodes what the native threads work by; the layouts are native/tunnel/table.h and native/tunnel/policy.h. */
import { addressBytes } from '../../native/sockaddr.ts';
import type { TunnelPolicy, TunnelSide } from './contract.ts';
import { PackedRoutes } from './packed-routes.ts';

export const AES_256_GCM = 1;
export const CHACHA20_POLY1305 = 2;
export const AEGIS_128L = 3;
const NO_SERVICE = 0xffff_ffff;
const ANY_ADDRESS = 0xff;

export interface SnapshotSendKey {
  readonly id: number;
  readonly index: number;
  readonly aead: number;
  readonly key: Uint8Array;
  /** For a peer that says it opens AEGIS-128L; the first 16 bytes count. */
  readonly aegis: Uint8Array;
}

export interface SnapshotReceiveKey {
  readonly id: number;
  readonly index: number;
  readonly aes: Uint8Array;
  readonly chacha: Uint8Array;
  readonly aegis: Uint8Array;
}

export interface SnapshotPeer {
  readonly id: number;
  readonly tun: { readonly fd: number; readonly token: number } | undefined;
  readonly policy: number;
  /** Bytes of UDP payload. */
  readonly largestDatagram: number;
  readonly endpoint: { readonly address: string; readonly port: number; readonly token: number } | undefined;
  readonly send: SnapshotSendKey | undefined;
  readonly receive: readonly SnapshotReceiveKey[];
  readonly limits: readonly { readonly service: number; readonly bitsPerSecond: number }[];
}

class Writer {
  #bytes = Buffer.alloc(4096);
  #used = 0;

  #room(length: number): number {
    const at = this.#used;
    this.#used += length;
    if (this.#used > this.#bytes.length) {
      const grown = Buffer.alloc(Math.max(this.#used, this.#bytes.length * 2));
      this.#bytes.copy(grown);
      // It may have held keys.
      this.#bytes.fill(0);
      this.#bytes = grown;
    }
    return at;
  }
  u8(value: number): void {
    // Room first: it may take another buffer.
    const at = this.#room(1);
    this.#bytes.writeUInt8(value, at);
  }
  u16(value: number): void {
    const at = this.#room(2);
    this.#bytes.writeUInt16LE(value, at);
  }
  u32(value: number): void {
    const at = this.#room(4);
    this.#bytes.writeUInt32LE(value >>> 0, at);
  }
  u64(value: number): void {
    const at = this.#room(8);
    this.#bytes.writeBigUInt64LE(BigInt(value), at);
  }
  bytes(value: Uint8Array): void {
    const at = this.#room(value.length);
    this.#bytes.set(value, at);
  }
  /** Bytes that somebody else writes. */
  reserve(length: number): Buffer {
    const at = this.#room(length);
    return this.#bytes.subarray(at, at + length);
  }
  done(): Buffer {
    return this.#bytes.subarray(0, this.#used);
  }
  again(): void {
    this.#used = 0;
  }
}

/** IPv4 addresses as `::ffff:a.b.c.d`. Throws RangeError for what is no address. */
export function mappedAddress(address: string): Buffer {
  const bytes = addressBytes(address);
  return bytes.length === 16 ? bytes : Buffer.concat([Buffer.alloc(10), Buffer.from([0xff, 0xff]), bytes]);
}

/** The result holds keys: the caller wipes it. */
export function encodeSnapshot(peers: readonly SnapshotPeer[]): Buffer {
  const out = new Writer();
  out.u32(peers.length);
  for (const peer of peers) {
    out.u32(peer.id);
    out.u32(peer.tun?.fd ?? -1);
    out.u32(peer.tun?.token ?? 0);
    out.u32(peer.policy);
    out.u16(peer.largestDatagram);
    out.u16(0);
    out.u8(peer.endpoint === undefined ? 0 : 1);
    out.u8(0);
    out.u16(peer.endpoint?.port ?? 0);
    out.bytes(peer.endpoint === undefined ? Buffer.alloc(16) : mappedAddress(peer.endpoint.address));
    out.u32(0);
    out.u32(peer.endpoint?.token ?? 0);
    out.u8(peer.send === undefined ? 0 : 1);
    if (peer.send !== undefined) {
      out.u32(peer.send.id);
      out.u32(peer.send.index);
      out.u8(peer.send.aead);
      out.bytes(peer.send.key);
      out.bytes(peer.send.aegis);
    }
    out.u32(peer.receive.length);
    for (const key of peer.receive) {
      out.u32(key.id);
      out.u32(key.index);
      out.bytes(key.aes);
      out.bytes(key.chacha);
      out.bytes(key.aegis);
    }
    out.u32(peer.limits.length);
    for (const limit of peer.limits) {
      out.u32(limit.service);
      out.u64(limit.bitsPerSecond);
    }
  }
  return out.done();
}

/**
 * Encodes one policy after another into the same memory: with 100,000 routes each is most of a megabyte. What it gives is
 * good until the next. `serviceNumber` gives the number that limits of the same peer name.
 */
export function createPolicyEncoder(
  serviceNumber: (serviceId: string) => number,
): (policy: TunnelPolicy) => Buffer {
  const out = new Writer();
  return (policy) => {
    out.again();
    writePolicy(out, policy, serviceNumber);
    return out.done();
  };
}

function writePolicy(out: Writer, policy: TunnelPolicy, serviceNumber: (serviceId: string) => number): void {
  const side = ({ fallback, classes }: TunnelSide): void => {
    out.u32(fallback === null ? NO_SERVICE : serviceNumber(fallback));
    out.u32(classes.length);
    for (const one of classes) {
      out.u8(one.family === 'ipv4' ? 4 : 6);
      out.u8(one.sourceLength ?? ANY_ADDRESS);
      out.u8(one.destLength ?? ANY_ADDRESS);
      out.u8(0);
      out.u32(one.routes.length);
      if (one.routes instanceof PackedRoutes) {
        one.routes.writeTo(out.reserve(one.routes.records.length), serviceNumber);
        continue;
      }
      for (const route of one.routes) {
        for (const cidr of [route.source, route.dest])
          if (cidr !== null) out.bytes(addressBytes(cidr.slice(0, cidr.lastIndexOf('/'))));
        out.u32(serviceNumber(route.serviceId));
      }
    }
  };
  side(policy.entries);
  side(policy.exits);
}
