import type { EventId, PeerId, Position } from './brand.ts';
import { CATALOGUE } from './catalogue.ts';
import type { AnyEvent, Stream } from './envelope.ts';
import type {
  LogReader,
  PageOptions,
  PinnedChain,
  ReadFilter,
  Snapshot,
  VersionVector,
} from './log-contract.ts';
import { damaged } from './log-errors.ts';
import { readHeads } from './log-heads.ts';
import { countOf, type KeyTerm, lookUp } from './log-keys.ts';
import { COLUMNS, type EventRow, eventAsWritten, eventOf, isIntact } from './log-rows.ts';
import type { RowQueries } from './row-queries.ts';

/**
 * Rows a page. Measured with bodies of 560 bytes: 4.2 us an event at 128 and 256, 4.9 at 512, 8 at 5,000, for a page must die
 * in V8's young generation instead of being copied out of it.
 */
export const PAGE_SIZE = 256;

const SELECT = `SELECT ${COLUMNS} FROM events`;

type Reads = Omit<LogReader, 'origin' | 'head' | 'close'>;

export function createReads(queries: RowQueries, path: string): Reads {
  const decode = (row: EventRow, asWritten: boolean): AnyEvent => {
    if (!isIntact(row)) throw damaged(path, 'the stored row does not match its checksum', row[0]);
    return asWritten ? eventAsWritten(row) : eventOf(row);
  };

  /** Positions have no holes, so a hole in an unfiltered page is a row the file has lost. */
  const expectConsecutive = (rows: readonly EventRow[], first: number, step: number): void => {
    let due = first;
    for (const row of rows) {
      if (row[0] !== due) throw damaged(path, 'the event is missing', due);
      due += step;
    }
  };

  function* rowPages(filter: ReadFilter, reverse: boolean): IterableIterator<readonly EventRow[]> {
    const size = filter.limit ?? PAGE_SIZE;
    const { terms, also, alsoValues } = conditions(filter);
    const dense = terms.length === 0 && also === '';
    const order = reverse ? 'position DESC' : 'position ASC';
    const sql = `${SELECT} WHERE position > ? AND position <= ?${also === '' ? '' : ` AND ${also}`} ORDER BY ${order} LIMIT ?`;
    let low: number = filter.after ?? 0;
    let high: number = filter.until ?? Number.MAX_SAFE_INTEGER;
    let begun = false;
    while (true) {
      const rows =
        terms.length === 0
          ? queries.all<EventRow>(sql, low, high, ...alsoValues, size)
          : lookUp(queries, { terms, also, alsoValues, low, high, reverse, limit: size });
      const first = rows[0];
      const last = rows.at(-1);
      if (first === undefined || last === undefined) return;
      if (dense) expectConsecutive(rows, reverse ? (begun ? high : first[0]) : low + 1, reverse ? -1 : 1);
      begun = true;
      yield rows;
      if (rows.length < size) return;
      if (reverse) high = last[0] - 1;
      else low = last[0];
    }
  }

  function* pages(filter: ReadFilter, options: PageOptions = {}): IterableIterator<readonly AnyEvent[]> {
    for (const rows of rowPages(filter, options.reverse === true))
      yield rows.map((row) => decode(row, options.asWritten === true));
  }

  function* rows(filter: ReadFilter): IterableIterator<readonly EventRow[]> {
    for (const page of rowPages(filter, false)) {
      for (const row of page)
        if (!isIntact(row)) throw damaged(path, 'the stored row does not match its checksum', row[0]);
      yield page;
    }
  }

  /** Where the history of each forked origin ends. */
  const forks = (): ReadonlyMap<string, number> => {
    const ends = new Map<string, number>();
    const terms: readonly KeyTerm[] = [['type', '= ?', 'peer.forked']];
    for (const row of lookUp(queries, { terms, limit: Number.MAX_SAFE_INTEGER })) {
      const event = decode(row, false);
      // As in the fold: what a newer peer means by it is not guessed.
      if (event.type === 'peer.forked' && event.version <= CATALOGUE[event.type].version)
        ends.set(event.entity, Math.min(event.data.seq, ends.get(event.entity) ?? event.data.seq));
    }
    return ends;
  };

  const latestSnapshot = (name: string): Snapshot | undefined => {
    const row = queries.get<[Position, string, number, Buffer]>(
      'SELECT position, digest, fold_version, state FROM snapshots WHERE name = ? ORDER BY position DESC LIMIT 1',
      name,
    );
    return row && { position: row[0], digest: row[1], foldVersion: row[2], state: row[3] };
  };

  return {
    pages,
    rows,
    chains: () => readHeads(queries),
    read(filter) {
      if (filter.limit === undefined) return [...pages(filter)].flat();
      const [page = []] = pages(filter);
      return page;
    },
    get(id: EventId) {
      const [row] = lookUp(queries, { terms: [['id', '= ?', id]], limit: 1 });
      return row && decode(row, false);
    },
    range(origin, fromSeq, maxEvents) {
      const events: AnyEvent[] = [];
      let from = fromSeq;
      while (true) {
        const terms = chainTerms(origin, 'config', '>= ?', from);
        const rows = lookUp(queries, { terms, order: 'seq', limit: Math.max(1, maxEvents) });
        for (const row of rows) events.push(decode(row, true));
        const end = events.findLastIndex((event) => event.signature !== null);
        if (end >= 0 || rows.length === 0) return events.slice(0, end + 1);
        // The transaction is larger than asked for: it goes whole or not at all.
        from += rows.length;
      }
    },
    versionVector: () => vectorOf(readHeads(queries)),
    entityVersion(entity) {
      // Without what a forked origin signed from the fork on: it counts nowhere, and so not in the views' versions.
      const terms: readonly KeyTerm[] = [
        ['entity', '= ?', entity],
        ['stream', '= ?', 'config'],
      ];
      let version = countOf(queries, terms);
      for (const [origin, seq] of forks())
        version -= countOf(queries, [...terms, ['origin', '= ?', origin], ['seq', '>= ?', seq]]);
      return version;
    },
    recordedAt: (position) =>
      queries.get<[number]>('SELECT recorded_at_ms FROM events WHERE position = ?', position)?.[0],
    positionAt(timeMs) {
      const sql = 'SELECT position FROM events WHERE recorded_at_ms <= ? ORDER BY position DESC LIMIT 1';
      return queries.get<[Position]>(sql, timeMs)?.[0] ?? (0 as Position);
    },
    latestSnapshot,
  };
}

export const vectorOf = (chains: Iterable<PinnedChain>): VersionVector => {
  const vector: Record<PeerId, number> = {};
  for (const { origin, stream, seq } of chains) if (stream === 'config') vector[origin] = seq;
  return vector;
};

/** Conditions for events of one chain, by sequence number. */
export const chainTerms = (origin: PeerId, stream: Stream, test: string, seq: number): readonly KeyTerm[] => [
  ['origin', '= ?', origin],
  ['stream', '= ?', stream],
  ['seq', test, seq],
];

/** Conditions beyond the range of positions: those there are keys for, and the others. */
function conditions(filter: ReadFilter) {
  const terms: KeyTerm[] = [];
  if (filter.types !== undefined)
    terms.push(['type', 'IN (SELECT value FROM json_each(?))', JSON.stringify(filter.types)]);
  if (filter.origin !== undefined) terms.push(['origin', '= ?', filter.origin]);
  if (filter.stream !== undefined) terms.push(['stream', '= ?', filter.stream]);
  if (filter.entity !== undefined) terms.push(['entity', '= ?', filter.entity]);
  const also: string[] = [];
  const alsoValues: string[] = [];
  if (filter.untilHlc !== undefined) {
    also.push("body ->> 'hlc' <= ?");
    alsoValues.push(filter.untilHlc);
  }
  // A client or peer by its id; `system` and `recovery`, which have none, by their kind.
  if (filter.actor !== undefined) {
    also.push(
      "(body ->> '$.actor.id' = ? OR (body ->> '$.actor.id' IS NULL AND body ->> '$.actor.kind' = ?))",
    );
    alsoValues.push(filter.actor, filter.actor);
  }
  return { terms, also: also.join(' AND '), alsoValues };
}
