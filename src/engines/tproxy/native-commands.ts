/** Commands to the native relay as bytes; `src/native/relay/commands.cc` decodes them. Integers are big-endian. */
import { addressBytes } from '../../native/sockaddr.ts';
import type { CarrierSession, TproxyExit, TproxyPeer, TproxyService } from './contract.ts';
import type { PathKind } from './path-kind.ts';

const COMMAND = {
  limits: 1,
  configure: 2,
  setSession: 3,
  noSession: 4,
  retire: 5,
  listen: 6,
  stopAccepting: 7,
  resetAll: 8,
  listenDatagrams: 9,
  sampleFlows: 10,
  setPath: 11,
} as const;

/** In the order of `struct Limits`. Milliseconds and bytes. */
export interface NativeLimits {
  readonly warm: number;
  readonly mostLinks: number;
  readonly waitTimeout: number;
  readonly idleTimeout: number;
  readonly pingEvery: number;
  readonly backoffLeast: number;
  readonly backoffMost: number;
  readonly handshakeTimeout: number;
  readonly rekeyFrames: number;
  readonly rekeyAfter: number;
  readonly connectTimeout: number;
  readonly mostFlows: number;
  readonly mostHandshakes: number;
  readonly renewalGrace: number;
  readonly silenceTimeout: number;
  readonly ownMark: number;
  readonly carrierBuffer: number;
  readonly notSentLowWater: number;
  readonly userTimeout: number;
  readonly training: number;
  readonly trainedLinks: number;
  readonly mostServiceFlows: number;
  readonly mostPeerFlows: number;
  readonly mostSourceHandshakes: number;
  readonly flowIdleTimeout: number;
  /** 1: AEGIS-128L on links whose other end has it too. */
  readonly aegis: number;
  /** Microseconds: a handshake below says that the path is short, until `setPath` says what it is. */
  readonly shortPath: number;
  readonly shortLowWater: number;
  readonly congestionControl: string;
  readonly shortCongestionControl: string;
}

class Writer {
  readonly #parts: Buffer[] = [];

  u8(value: number): this {
    this.#parts.push(Buffer.of(value));
    return this;
  }

  u16(value: number): this {
    const bytes = Buffer.alloc(2);
    bytes.writeUInt16BE(value);
    return this.raw(bytes);
  }

  u32(value: number): this {
    const bytes = Buffer.alloc(4);
    bytes.writeUInt32BE(value);
    return this.raw(bytes);
  }

  u64(value: number): this {
    const bytes = Buffer.alloc(8);
    bytes.writeBigUInt64BE(BigInt(Math.round(value)));
    return this.raw(bytes);
  }

  flag(value: boolean): this {
    return this.u8(value ? 1 : 0);
  }

  /** At most 255 bytes; longer is a RangeError of `u8`. */
  text(value: string): this {
    const bytes = Buffer.from(value, 'utf8');
    if (bytes.length > 255) throw new RangeError(`too long for the native relay: ${value}`);
    return this.u8(bytes.length).raw(bytes);
  }

  raw(bytes: Buffer): this {
    this.#parts.push(bytes);
    return this;
  }

  address(text: string): this {
    const bytes = addressBytes(text);
    return this.u8(bytes.length).raw(bytes);
  }

  prefix(cidr: string | null): this {
    if (cidr === null) return this.flag(false);
    const [address = '', width = ''] = cidr.split('/');
    if (!/^\d{1,3}$/.test(width)) throw new RangeError(`not a CIDR: ${cidr}`);
    return this.flag(true).address(address).u8(Number(width));
  }

  done(): Buffer {
    return Buffer.concat(this.#parts);
  }
}

export function encodeLimits(limits: NativeLimits): Buffer {
  const out = new Writer().u8(COMMAND.limits);
  for (const value of [
    limits.warm,
    limits.mostLinks,
    limits.waitTimeout,
    limits.idleTimeout,
    limits.pingEvery,
    limits.backoffLeast,
    limits.backoffMost,
    limits.handshakeTimeout,
    limits.rekeyFrames,
    limits.rekeyAfter,
    limits.connectTimeout,
    limits.mostFlows,
    limits.mostHandshakes,
    limits.renewalGrace,
    limits.silenceTimeout,
    limits.ownMark,
    limits.carrierBuffer,
    limits.notSentLowWater,
    limits.userTimeout,
    limits.training,
    limits.trainedLinks,
    limits.mostServiceFlows,
    limits.mostPeerFlows,
    limits.mostSourceHandshakes,
    limits.flowIdleTimeout,
    limits.aegis,
    limits.shortPath,
    limits.shortLowWater,
  ]) {
    out.u32(value);
  }
  return out.text(limits.congestionControl).text(limits.shortCongestionControl).done();
}

/** Bit 0: over KCP; bit 1: the path is measured in any case, because the choice depends on it. */
function transportByte({ transport, chosen }: ChosenService): number {
  if (transport === 'auto') return chosen === 'kcp' ? 3 : 2;
  return transport === 'kcp' ? 1 : 0;
}

/** `chosen`: what `auto` means now. */
export type ChosenService = TproxyService & { readonly chosen?: 'tcp' | 'kcp' };

/** `peers` have addresses, not names. Throws RangeError for a malformed CIDR or address. */
export function encodeConfigure(config: {
  readonly entries: readonly ChosenService[];
  readonly exits: readonly TproxyExit[];
  readonly peers: readonly TproxyPeer[];
}): Buffer {
  const out = new Writer().u8(COMMAND.configure);
  const services = (all: readonly (ChosenService & Partial<Pick<TproxyExit, 'allowed'>>)[]): void => {
    out.u32(all.length);
    for (const service of all) {
      out.text(service.serviceId).text(service.peerId).u32(service.mark).flag(service.fullyTransparent);
      out
        .u8(transportByte(service))
        .u64(service.limitBitsPerSecond)
        .u32(service.allowed?.length ?? 0);
      for (const rule of service.allowed ?? []) out.prefix(rule.source).prefix(rule.destination);
    }
  };
  services(config.entries);
  services(config.exits);
  out.u32(config.peers.length);
  for (const peer of config.peers) out.text(peer.peerId).address(peer.host).u16(peer.port);
  return out.done();
}

/** The bytes hold the key: overwrite them once they are handed over. */
export function encodeSetSession(session: CarrierSession, current: boolean): Buffer {
  const key = Buffer.from(session.key);
  const bytes = new Writer()
    .u8(COMMAND.setSession)
    .raw(Buffer.from(session.sessionId, 'hex'))
    .raw(key)
    .text(session.peerId)
    .flag(session.initiator)
    .flag(current)
    .done();
  key.fill(0);
  return bytes;
}

export const encodeNoSession = (sessionId: string): Buffer =>
  new Writer().u8(COMMAND.noSession).raw(Buffer.from(sessionId, 'hex')).done();

export const encodeRetire = (sessionId: string, peerId: string, removed: boolean): Buffer =>
  new Writer().u8(COMMAND.retire).raw(Buffer.from(sessionId, 'hex')).text(peerId).flag(removed).done();

/** The relay owns `fd` from then on. */
export const encodeListen = (fd: number, captured: boolean, port: number): Buffer =>
  new Writer().u8(COMMAND.listen).u32(fd).flag(captured).u16(port).done();

/** The relay opens its UDP sockets itself. */
export const encodeListenDatagrams = (port: number): Buffer =>
  new Writer().u8(COMMAND.listenDatagrams).u16(port).done();

export const encodeSampleFlows = (token: number, serviceId: string): Buffer =>
  new Writer().u8(COMMAND.sampleFlows).u32(token).text(serviceId).done();

export const encodeSetPath = (peerId: string, kind: PathKind): Buffer =>
  new Writer()
    .u8(COMMAND.setPath)
    .text(peerId)
    .u8(kind === 'short' ? 1 : 2)
    .done();

export const encodeStopAccepting = (): Buffer => new Writer().u8(COMMAND.stopAccepting).done();
export const encodeResetAll = (): Buffer => new Writer().u8(COMMAND.resetAll).done();
