import { crc32 } from 'node:zlib';
import type { AnyEvent } from './envelope.ts';
import { upcast } from './upcast.ts';

/** Columns of `events` in the order every statement uses. */
export const COLUMNS = 'position, recorded_at_ms, checksum, body, hash, signature';

export const INSERT_EVENT = `INSERT INTO events (${COLUMNS}) VALUES (?, ?, ?, ?, ?, ?)`;

/**
 * One row as better-sqlite3 gives it with `.raw()`. Few columns, as arrays: each text column costs as much as parsing a
 * quarter of the body, and an object a row costs three times the array.
 */
export type EventRow = [
  position: number,
  recordedAtMs: number,
  checksum: number,
  /** Exactly the hashed bytes: canonical JSON of the event without position, hash and signature. */
  body: string,
  hash: string,
  signature: string | null,
];

/**
 * CRC-32 over all columns but itself, the body last; in steps, so that no text of all has to be put together. The short columns
 * are ASCII and summed here: a call of zlib's costs more than that, and replay makes one a row.
 */
function checksum(row: EventRow): number {
  let sum = -1;
  sum = summed(sum, String(row[0]));
  sum = summed(sum, String(row[1]));
  sum = summed(sum, row[4]);
  sum = summed(sum, row[5] ?? 'null');
  return crc32(row[3], ~sum >>> 0);
}

/** A text and the space after it. */
function summed(sum: number, text: string): number {
  let crc = sum;
  for (let i = 0; i < text.length; i += 1)
    crc = (CRC_TABLE[(crc ^ text.charCodeAt(i)) & 0xff] ?? 0) ^ (crc >>> 8);
  return (CRC_TABLE[(crc ^ 0x20) & 0xff] ?? 0) ^ (crc >>> 8);
}

/** Of the reflected polynomial 0xedb88320 (ISO 3309, as in zlib). */
const CRC_TABLE = Int32Array.from({ length: 256 }, (_, byte) => {
  let crc = byte;
  for (let bit = 0; bit < 8; bit += 1) crc = crc & 1 ? (crc >>> 1) ^ 0xedb88320 : crc >>> 1;
  return crc;
});

export const isIntact = (row: EventRow): boolean => row[2] === checksum(row);

export function rowOf(event: AnyEvent, body: string, recordedAtMs: number): EventRow {
  const row: EventRow = [event.position, recordedAtMs, 0, body, event.hash, event.signature];
  row[2] = checksum(row);
  return row;
}

/** The event as it was written and hashed: its data may be of an older version. */
export const eventAsWritten = (row: EventRow): AnyEvent => {
  const body = JSON.parse(row[3]);
  return build(row, body, body.data);
};

/** The event with its data lifted to the current version; `version` and `hash` stay those of the written form. */
export const eventOf = (row: EventRow): AnyEvent => {
  const body = JSON.parse(row[3]);
  return build(row, body, upcast(body.type, body.version, body.data) ?? body.data);
};

/** What was checked on the way in is trusted on the way out: this is the one place where a row becomes a typed event. */
function build(row: EventRow, body: AnyEvent, data: unknown): AnyEvent {
  return {
    id: body.id,
    position: row[0],
    origin: body.origin,
    stream: body.stream,
    seq: body.seq,
    hlc: body.hlc,
    type: body.type,
    version: body.version,
    entity: body.entity,
    actor: body.actor,
    correlation_id: body.correlation_id,
    data,
    prev_hash: body.prev_hash,
    hash: row[4],
    signature: row[5],
  } as AnyEvent;
}
