import { CSV_HEAD, type CsvRows, createCsvRows, csvEventCells, csvPlainCells } from './audit-csv.ts';
import {
  AUDIT_FORMAT,
  type AuditFilter,
  type AuditLine,
  type ChainSpan,
  type ChangeReader,
  closeLine,
  coreOf,
  type EventBody,
  type EventPrefix,
  eventCore,
  FIRST_LINK,
  KEY_TYPES,
  linkOf,
  sealMessage,
} from './audit-format.ts';
import type { PeerId, Position } from './brand.ts';
import type { Signer } from './ed25519.ts';
import { endOfMs, formatHlc, isoTime, timeText } from './hlc.ts';
import type { LogReader } from './log-contract.ts';
import type { EventRow } from './log-rows.ts';
import type { Stream } from './stream.ts';

export interface AuditOptions {
  readonly format: 'jsonl' | 'csv';
  readonly filter: AuditFilter;
  /** Wall clock, ms since the epoch. */
  readonly exportedAtMs: number;
  /** Signs the last link as the exporter; without it the export is not sealed. */
  readonly seal?: Pick<Signer, 'sign'> | undefined;
}

export type AuditSource = Pick<LogReader, 'origin' | 'head' | 'rows' | 'chains'>;

/** Events of one chain between two signatures that are verified: what cannot be told apart when a forger was at work. */
const SIGNATURE_EVERY = 128;
/** Hashes in one line. */
const LEFT_OUT_MOST = 256;
/** Characters handed over at once. */
const CHUNK = 64 * 1024;

/**
 * The text of an export, in pieces, of the log as it is when this begins. Reads page by page, so that writers are not held
 * up; memory does not grow with the history. Throws what reading throws, and then there is no trailer.
 */
export function* exportAudit(
  source: AuditSource,
  changes: ChangeReader,
  options: AuditOptions,
): Generator<string, void, void> {
  const { filter } = options;
  const head = source.head;
  const range = rangeOf(filter);
  const writer = new Writer(options.format);
  const sealedBy = options.seal === undefined ? null : source.origin;
  const unfiltered = filter.since === null && filter.types === null && filter.actor === null;
  writer.plain({
    line: writer.next,
    kind: 'header',
    format: AUDIT_FORMAT,
    exported_at: new Date(options.exportedAtMs).toISOString(),
    exporter: source.origin,
    head,
    filter,
    complete: unfiltered && (filter.until === null || isPosition(filter.until)),
    fold_version: changes.version,
    sealed_by: sealedBy,
    keys: Object.fromEntries(source.chains().map(({ origin, publicKey }) => [origin, publicKey])),
  });
  const chains = new Map<string, ExportedChain>();
  const types = filter.types === null ? undefined : new Set(filter.types);
  for (const page of source.rows({ until: head as Position })) {
    for (const row of page) {
      const body = JSON.parse(row[3]) as EventBody;
      const change = changes.take(body);
      const place = range(row[0], body);
      if (place === 'before') continue;
      const key = `${body.origin}/${body.stream}`;
      let chain = chains.get(key);
      if (chain === undefined) {
        if (place === 'after') continue;
        chain = new ExportedChain(body, writer);
        chains.set(key, chain);
      }
      const wanted = place === 'inside' && fits(body, types, filter.actor);
      chain.take(row, body, change, place, wanted);
      if (writer.size >= CHUNK) yield writer.drain();
    }
    // Also where nothing is written for long: who pulls gets a turn for every page.
    yield writer.drain();
  }
  for (const chain of chains.values()) chain.end();
  const { counts } = writer;
  const spans = [...chains.values()].map((chain) => chain.span());
  const link = writer.plain({ line: writer.next, kind: 'trailer', ...counts, chains: spans });
  if (options.seal !== undefined && sealedBy !== null) {
    const signature = Buffer.from(options.seal.sign(sealMessage(link))).toString('base64');
    writer.plain({ line: writer.next, kind: 'seal', peer_id: sealedBy, signature });
  }
  yield writer.drain();
}

type Place = 'before' | 'inside' | 'after';

const isPosition = (text: string): boolean => /^\d+$/.test(text);

/** Where an event stands in the range asked for. Along one chain places never go back, so a range of a chain has no holes. */
function rangeOf(filter: AuditFilter): (position: number, body: EventBody) => Place {
  const { since, until } = filter;
  const first = since === null || !isPosition(since) ? 0 : Number(since);
  const last = until === null || !isPosition(until) ? Number.POSITIVE_INFINITY : Number(until);
  const firstHlc = since === null || isPosition(since) ? '' : formatHlc(Date.parse(since), 0);
  const lastHlc = until === null || isPosition(until) ? '~' : endOfMs(Date.parse(until));
  return (position, { hlc }) =>
    position < first || hlc < firstHlc ? 'before' : position > last || hlc > lastHlc ? 'after' : 'inside';
}

const fits = (
  { type, actor }: EventBody,
  types: ReadonlySet<string> | undefined,
  wanted: string | null,
): boolean =>
  (types === undefined || types.has(type)) &&
  (wanted === null || actor.id === wanted || (actor.id === null && actor.kind === wanted));

/** Writes numbered, linked lines. */
class Writer {
  readonly counts = { events: 0, context: 0, left_out: 0, signatures: 0 };
  next = 1;
  size = 0;
  readonly #csv: CsvRows | undefined;
  #parts: string[] = [];
  #link = FIRST_LINK;

  constructor(format: AuditOptions['format']) {
    this.#csv = format === 'csv' ? createCsvRows() : undefined;
    if (this.#csv !== undefined) this.#parts.push(`${CSV_HEAD}\r\n`);
  }

  plain(line: AuditLine): string {
    const record = this.#close(coreOf(line));
    this.#push(this.#csv?.write(csvPlainCells(line.line, line.kind), record) ?? record);
    return this.#link;
  }

  event(prefix: EventPrefix, bodyText: string, body: EventBody): void {
    const record = this.#close(eventCore(prefix, bodyText));
    this.#push(this.#csv?.write(csvEventCells(prefix, body), record) ?? record);
  }

  drain(): string {
    const text = this.#parts.join('');
    this.#parts = [];
    this.size = 0;
    return text;
  }

  #close(core: string): string {
    this.#link = linkOf(this.#link, core);
    this.next += 1;
    return closeLine(core, this.#link);
  }

  #push(text: string): void {
    this.#parts.push(text, this.#csv === undefined ? '\n' : '\r\n');
    this.size += text.length;
  }
}

/** What one chain has come to in the export, and what is still owed for it. */
class ExportedChain {
  readonly #origin: PeerId;
  readonly #stream: Stream;
  readonly #first: number;
  readonly #writer: Writer;
  #seq: number;
  #hash = '';
  /** Of the event at `#seq`, where that ends a transaction. */
  #signature: string | null = null;
  /** Events written since the last signature line. */
  #unproven = 0;
  #leftOut: string[] = [];
  #leftOutFirst = 0;
  #endsLeftOut = false;

  constructor(first: EventBody, writer: Writer) {
    this.#origin = first.origin;
    this.#stream = first.stream;
    this.#first = first.seq;
    this.#seq = first.seq - 1;
    this.#writer = writer;
  }

  take(
    row: EventRow,
    body: EventBody,
    change: ReturnType<ChangeReader['take']>,
    place: Place,
    wanted: boolean,
  ): void {
    // A transaction is proven by the signature at its end, so what was begun is written to there.
    const owed = this.#unproven > 0 && this.#signature === null;
    if (place === 'after' && !owed) return;
    if (wanted || owed || (place === 'inside' && KEY_TYPES.has(body.type)))
      this.#write(row, body, wanted ? change : undefined);
    else this.#leaveOut(row, body);
  }

  /** Everything up to here is proven when this returns. */
  end(): void {
    this.#flushLeftOut();
    if (this.#unproven > 0 || this.#endsLeftOut) this.#prove();
  }

  span(): ChainSpan {
    return {
      origin: this.#origin,
      stream: this.#stream,
      first_seq: this.#first,
      last_seq: this.#seq,
      last_hash: this.#hash,
    };
  }

  #write(row: EventRow, body: EventBody, change: ReturnType<ChangeReader['take']> | undefined): void {
    this.#flushLeftOut();
    const kind = change === undefined ? 'context' : 'event';
    const prefix: EventPrefix = {
      line: this.#writer.next,
      kind,
      position: row[0],
      time: timeText(body.hlc),
      recorded_at: isoTime(row[1]),
      before: JSON.stringify(change?.before ?? null),
      after: JSON.stringify(change?.after ?? null),
      hash: row[4],
    };
    this.#writer.event(prefix, row[3], body);
    if (change === undefined) this.#writer.counts.context += 1;
    else this.#writer.counts.events += 1;
    this.#advance(row, body);
    this.#endsLeftOut = false;
    this.#unproven += 1;
    if (this.#unproven >= SIGNATURE_EVERY) this.#prove();
  }

  #leaveOut(row: EventRow, body: EventBody): void {
    if (this.#unproven > 0) this.#prove();
    if (this.#leftOut.length === 0) this.#leftOutFirst = body.seq;
    this.#leftOut.push(row[4]);
    this.#advance(row, body);
    this.#endsLeftOut = true;
    if (this.#leftOut.length >= LEFT_OUT_MOST) this.#flushLeftOut();
  }

  #advance(row: EventRow, body: EventBody): void {
    this.#seq = body.seq;
    this.#hash = row[4];
    this.#signature = row[5];
  }

  #flushLeftOut(): void {
    if (this.#leftOut.length === 0) return;
    this.#writer.plain({
      line: this.#writer.next,
      kind: 'left_out',
      origin: this.#origin,
      stream: this.#stream,
      first_seq: this.#leftOutFirst,
      hashes: this.#leftOut,
    });
    this.#writer.counts.left_out += this.#leftOut.length;
    this.#leftOut = [];
  }

  #prove(): void {
    if (this.#signature === null) return;
    this.#writer.counts.signatures += 1;
    this.#unproven = 0;
    this.#writer.plain({
      line: this.#writer.next,
      kind: 'signature',
      origin: this.#origin,
      stream: this.#stream,
      seq: this.#seq,
      hash: this.#hash,
      signature: this.#signature,
    });
  }
}
