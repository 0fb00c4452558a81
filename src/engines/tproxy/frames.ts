/**
 * The carrier's frames, without keys or sockets (`ops/docs/carrier-format.md` is the specification). Pure; strict:
 * a length or value the format does not name is a FrameError, and the link it came on is closed.
 *
 *     0        1                    4                4 + length        4 + length + 16
 *     | type   | length (24 bit BE) | sealed payload | tag             |
 *
 * The four bytes of the header are the additional data of the AEAD. `length` is that of the payload.
 */
import { addressBytes, addressText } from '../../native/sockaddr.ts';

export const FRAME = {
  data: 1,
  open: 2,
  opened: 3,
  reset: 4,
  finish: 5,
  ping: 6,
  pong: 7,
  pad: 8,
  rekey: 9,
  confirm: 10,
} as const;

export type FrameType = (typeof FRAME)[keyof typeof FRAME];

export const HEADER_LENGTH = 4;
export const TAG_LENGTH = 16;
/** Bytes. 128 KB measured no better, 16 KB costs a tenth more CPU. */
export const MAX_PAYLOAD = 65_536;
export const MAX_SERVICE_ID = 64;

const OPEN_FIXED = 11;

/** Shortest and longest payload of each type. */
const LENGTHS: Readonly<Record<number, readonly [least: number, most: number]>> = {
  [FRAME.data]: [1, MAX_PAYLOAD],
  [FRAME.open]: [OPEN_FIXED + 4 + 4 + 1, OPEN_FIXED + 16 + 16 + MAX_SERVICE_ID],
  [FRAME.opened]: [4, 4],
  [FRAME.reset]: [6, 6],
  [FRAME.finish]: [4, 4],
  [FRAME.ping]: [8, 8],
  [FRAME.pong]: [8, 8],
  [FRAME.pad]: [0, MAX_PAYLOAD],
  [FRAME.rekey]: [0, 0],
  [FRAME.confirm]: [32, 32],
};

/** The peer broke the format. Nothing on the link can be trusted afterwards. */
export class FrameError extends Error {
  constructor(text: string) {
    super(text);
    this.name = 'FrameError';
  }
}

export interface FrameHeader {
  readonly type: FrameType;
  /** Of the payload, in bytes. */
  readonly length: number;
}

export interface Endpoint {
  readonly address: string;
  readonly port: number;
}

/** What an entry asks of an exit: dial `destination` for `source` under this service. */
export interface Open {
  /** 1 for the first flow of a link, one more for each that follows. */
  readonly flow: number;
  readonly serviceId: string;
  readonly destination: Endpoint;
  readonly source: Endpoint;
}

/** Throws FrameError when the type does not allow the length. */
export function encodeHeader(type: FrameType, length: number): Buffer {
  checkLength(type, length);
  const header = Buffer.allocUnsafe(HEADER_LENGTH);
  header.writeUInt8(type, 0);
  header.writeUIntBE(length, 1, 3);
  return header;
}

/** Reads the header at `offset`; the caller has made sure of four bytes. Throws FrameError before any payload is awaited. */
export function decodeHeader(bytes: Buffer, offset = 0): FrameHeader {
  const type = bytes.readUInt8(offset);
  const length = bytes.readUIntBE(offset + 1, 3);
  checkLength(type, length);
  return { type: type as FrameType, length };
}

function checkLength(type: number, length: number): void {
  const range = LENGTHS[type];
  if (range === undefined) throw new FrameError(`unknown frame type ${type}`);
  if (length < range[0] || length > range[1]) {
    throw new FrameError(
      `a frame of type ${type} has ${length} bytes; allowed are ${range[0]} to ${range[1]}`,
    );
  }
}

/**
 *     flow u32 | family u8 (4, 6) | flags u8 (0) | destination port u16 | source port u16 | service id length u8
 *     | destination 4 or 16 | source 4 or 16 | service id, ASCII
 *
 * Throws RangeError for addresses of different families or an unusable service id: that is our own fault.
 */
export function encodeOpen(open: Open): Buffer {
  const destination = addressBytes(open.destination.address);
  const source = addressBytes(open.source.address);
  if (destination.length !== source.length) {
    throw new RangeError(
      `source ${open.source.address} and destination ${open.destination.address} differ in family`,
    );
  }
  if (!isServiceId(open.serviceId)) throw new RangeError(`not a service id: ${open.serviceId}`);
  const fixed = Buffer.alloc(OPEN_FIXED);
  fixed.writeUInt32BE(open.flow, 0);
  fixed.writeUInt8(destination.length === 4 ? 4 : 6, 4);
  fixed.writeUInt16BE(open.destination.port, 6);
  fixed.writeUInt16BE(open.source.port, 8);
  fixed.writeUInt8(open.serviceId.length, 10);
  return Buffer.concat([fixed, destination, source, Buffer.from(open.serviceId, 'ascii')]);
}

/** Throws FrameError for anything `encodeOpen` would not have written. */
export function decodeOpen(payload: Buffer): Open {
  if (payload.length < OPEN_FIXED) throw new FrameError('OPEN is cut short');
  const family = payload.readUInt8(4);
  if (family !== 4 && family !== 6) throw new FrameError(`OPEN names address family ${family}`);
  if (payload.readUInt8(5) !== 0) throw new FrameError('OPEN has flags that are not defined');
  const width = family === 4 ? 4 : 16;
  const idLength = payload.readUInt8(10);
  if (payload.length !== OPEN_FIXED + 2 * width + idLength) throw new FrameError('OPEN has the wrong length');
  const destination = payload.subarray(OPEN_FIXED, OPEN_FIXED + width);
  const source = payload.subarray(OPEN_FIXED + width, OPEN_FIXED + 2 * width);
  // connect(2) would turn ::ffff:a.b.c.d into IPv4 and so pass a check that was made for IPv6.
  if (isMapped(destination) || isMapped(source)) throw new FrameError('OPEN has an IPv4-mapped address');
  const serviceId = payload.toString('latin1', OPEN_FIXED + 2 * width);
  if (!isServiceId(serviceId)) throw new FrameError('OPEN has an unusable service id');
  return {
    flow: payload.readUInt32BE(0),
    serviceId,
    destination: { address: addressText(destination), port: payload.readUInt16BE(6) },
    source: { address: addressText(source), port: payload.readUInt16BE(8) },
  };
}

/** Payload of OPENED and FINISH. */
export function encodeFlow(flow: number): Buffer {
  const payload = Buffer.allocUnsafe(4);
  payload.writeUInt32BE(flow, 0);
  return payload;
}

export function decodeFlow(payload: Buffer): number {
  if (payload.length !== 4) throw new FrameError('a flow number has four bytes');
  return payload.readUInt32BE(0);
}

/** Payload of RESET: flow u32 | errno u16 as asm-generic/errno.h numbers them. */
export function encodeReset(flow: number, errno: number): Buffer {
  const payload = Buffer.allocUnsafe(6);
  payload.writeUInt32BE(flow, 0);
  payload.writeUInt16BE(errno, 4);
  return payload;
}

export function decodeReset(payload: Buffer): { readonly flow: number; readonly errno: number } {
  if (payload.length !== 6) throw new FrameError('RESET has six bytes');
  return { flow: payload.readUInt32BE(0), errno: payload.readUInt16BE(4) };
}

function isServiceId(text: string): boolean {
  return text.length <= MAX_SERVICE_ID && /^[\x21-\x7e]+$/.test(text);
}

function isMapped(address: Buffer): boolean {
  return (
    address.length === 16 &&
    address.subarray(0, 10).every((byte) => byte === 0) &&
    address.readUInt16BE(10) === 0xffff
  );
}
