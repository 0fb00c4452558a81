/** Integers in the byte order of this machine, as the kernel's own structures use them. */
import { endianness } from 'node:os';

const LITTLE = endianness() === 'LE';

export function readHost16(bytes: Buffer, offset: number): number {
  return LITTLE ? bytes.readUInt16LE(offset) : bytes.readUInt16BE(offset);
}

export function readHost32(bytes: Buffer, offset: number): number {
  return LITTLE ? bytes.readUInt32LE(offset) : bytes.readUInt32BE(offset);
}

export function readHostInt32(bytes: Buffer, offset: number): number {
  return readHost32(bytes, offset) | 0;
}

export function readHost64(bytes: Buffer, offset: number): bigint {
  return LITTLE ? bytes.readBigUInt64LE(offset) : bytes.readBigUInt64BE(offset);
}

export function writeHost16(bytes: Buffer, value: number, offset: number): void {
  if (LITTLE) bytes.writeUInt16LE(value, offset);
  else bytes.writeUInt16BE(value, offset);
}

export function writeHost32(bytes: Buffer, value: number, offset: number): void {
  if (LITTLE) bytes.writeUInt32LE(value >>> 0, offset);
  else bytes.writeUInt32BE(value >>> 0, offset);
}

export function writeHost64(bytes: Buffer, value: bigint, offset: number): void {
  if (LITTLE) bytes.writeBigUInt64LE(value, offset);
  else bytes.writeBigUInt64BE(value, offset);
}

/** A C int. */
export function hostInt(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  writeHost32(bytes, value, 0);
  return bytes;
}
