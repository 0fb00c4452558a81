import { crc32 } from 'node:zlib';
import type { AnyEvent } from './envelope.ts';
import { upcast } from './upcast.ts';

/** Columns of `events` in the order every statement uses. */
export const COLUMNS =
  'position, recorded_at_ms, checksum, id, origin, stream, seq, hlc, type, version, entity, ' +
  'actor_kind, actor_id, actor_address, correlation_id, data, prev_hash, hash, signature';

export const INSERT_EVENT = `INSERT INTO events (${COLUMNS}) VALUES (${COLUMNS.replaceAll(/\w+/g, '?')})`;

/** One row as better-sqlite3 gives it with `.raw()`: an array costs a third of an object. */
export type EventRow = [
  position: number,
  recordedAtMs: number,
  checksum: number,
  id: string,
  origin: string,
  stream: string,
  seq: number,
  hlc: string,
  type: string,
  version: number,
  entity: string,
  actorKind: string,
  actorId: string | null,
  actorAddress: string | null,
  correlationId: string,
  data: string,
  prevHash: string,
  hash: string,
  signature: string | null,
];

/** Canonical JSON text of the data of a row. */
export const dataTextOf = (row: EventRow): string => row[15];
export const recordedAtOf = (row: EventRow): number => row[1];

/** CRC-32 over all columns but itself. Separators cannot occur inside a column, except in data, which stands last. */
function checksum(row: EventRow): number {
  return crc32(
    `${row[0]}\n${row[1]}\n${row[3]}\n${row[4]}\n${row[5]}\n${row[6]}\n${row[7]}\n${row[8]}\n${row[9]}\n${row[10]}\n${row[11]}\n` +
      `${row[12]}\n${row[13]}\n${row[14]}\n${row[16]}\n${row[17]}\n${row[18]}\n${row[15]}`,
  );
}

export const isIntact = (row: EventRow): boolean => row[2] === checksum(row);

export function rowOf(event: AnyEvent, dataText: string, recordedAtMs: number): EventRow {
  const row: EventRow = [
    event.position,
    recordedAtMs,
    0,
    event.id,
    event.origin,
    event.stream,
    event.seq,
    event.hlc,
    event.type,
    event.version,
    event.entity,
    event.actor.kind,
    event.actor.id,
    event.actor.address,
    event.correlation_id,
    dataText,
    event.prev_hash,
    event.hash,
    event.signature,
  ];
  row[2] = checksum(row);
  return row;
}

/** The event as it was written and hashed: its data may be of an older version. */
export const eventAsWritten = (row: EventRow): AnyEvent => build(row, JSON.parse(row[15]));

/** The event with its data lifted to the current version; `version` and `hash` stay those of the written form. */
export const eventOf = (row: EventRow): AnyEvent => {
  const data = JSON.parse(row[15]);
  return build(row, upcast(row[8], row[9], data) ?? data);
};

/** What was checked on the way in is trusted on the way out: this is the one place where a row becomes a typed event. */
function build(row: EventRow, data: unknown): AnyEvent {
  return {
    id: row[3],
    position: row[0],
    origin: row[4],
    stream: row[5],
    seq: row[6],
    hlc: row[7],
    type: row[8],
    version: row[9],
    entity: row[10],
    actor: { kind: row[11], id: row[12], address: row[13] },
    correlation_id: row[14],
    data,
    prev_hash: row[16],
    hash: row[17],
    signature: row[18],
  } as unknown as AnyEvent;
}
