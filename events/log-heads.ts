import type Database from 'better-sqlite3';
import type { Hlc, PeerId } from './brand.ts';
import type { AnyEvent, Stream } from './envelope.ts';
import type { PinnedChain } from './log-contract.ts';
import type { RowQueries } from './row-queries.ts';

/**
 * Where each chain ends. `chain_heads` holds a chain from its first event on, with the key pinned for its origin; how far it
 * has come since is written when the keys of events are (log-keys.ts) and when the log is closed, so that an append dirties
 * one page and not two. What follows is read off the tail of events that have no keys yet.
 */
export const chainKey = (origin: PeerId, stream: Stream): string => `${origin}/${stream}`;

type StoredHead = [PeerId, Stream, number, string, Hlc, string];
type TailRow = [string, null, null, string, null, null];

/** One statement, so that both halves are of one moment also while another process appends. */
const HEADS_AND_TAIL =
  'SELECT * FROM (SELECT origin, stream, seq, hash, hlc, public_key FROM chain_heads ORDER BY origin, stream) ' +
  'UNION ALL SELECT * FROM (SELECT body, NULL, NULL, hash, NULL, NULL FROM events ' +
  'WHERE position > (SELECT coalesce(max(position), 0) FROM event_keys) ORDER BY position)';

/** The end of every chain, by origin and stream. Believes what is stored; verification is apart (verify.ts). */
export function readHeads(queries: RowQueries): PinnedChain[] {
  const heads = new Map<string, PinnedChain>();
  for (const row of queries.all<StoredHead | TailRow>(HEADS_AND_TAIL)) {
    if (isTail(row)) {
      const event = parsed(row[0]);
      const key = event && chainKey(event.origin, event.stream);
      const head = key === undefined ? undefined : heads.get(key);
      // What is damaged or of no known chain is for verification to report.
      if (event === undefined || key === undefined || head === undefined || !(event.seq > head.seq)) continue;
      heads.set(key, { ...head, seq: event.seq, hash: row[3], hlc: event.hlc });
    } else {
      const [origin, stream, seq, hash, hlc, publicKey] = row;
      heads.set(chainKey(origin, stream), { origin, stream, seq, hash, hlc, publicKey });
    }
  }
  return [...heads.values()];
}

const isTail = (row: StoredHead | TailRow): row is TailRow => row[1] === null;

function parsed(body: string): Pick<AnyEvent, 'origin' | 'stream' | 'seq' | 'hlc'> | undefined {
  try {
    return JSON.parse(body);
  } catch {
    return undefined;
  }
}

/** Writes ends of chains; call it in the transaction that stores what they end with. */
export function createHeadWriter(db: Database.Database): (heads: Iterable<PinnedChain>) => void {
  const put = db.prepare(
    'INSERT INTO chain_heads (origin, stream, seq, hash, hlc, public_key) VALUES (?, ?, ?, ?, ?, ?) ' +
      'ON CONFLICT (origin, stream) DO UPDATE SET seq = excluded.seq, hash = excluded.hash, hlc = excluded.hlc',
  );
  return (heads) => {
    for (const { origin, stream, seq, hash, hlc, publicKey } of heads)
      put.run(origin, stream, seq, hash, hlc, publicKey);
  };
}
