import type { ClientId, PeerId, RouteKey, ServiceId } from '../events/brand.ts';
import type { AnyEvent } from '../events/envelope.ts';
import { upcast } from '../events/upcast.ts';
import { FOLD_VERSION, Fold } from './fold.ts';

type Row = Readonly<Record<string, unknown>>;

/** What an event changed of the thing it is about: only the fields that are not the same; null for nothing there. */
export interface Change {
  readonly before: Row | null;
  readonly after: Row | null;
}

/** An event with its data as written. */
export type WrittenEvent = Pick<
  AnyEvent,
  'id' | 'origin' | 'stream' | 'seq' | 'hlc' | 'version' | 'entity'
> & {
  readonly type: string;
  readonly data: Readonly<Record<string, unknown>>;
};

const NOTHING: Change = { before: null, after: null };
/** Counters that move with every event; what a person asks for is not among them. Hashes of secrets are nobody's business. */
const HIDDEN = new Set([
  'version',
  'updated_at',
  'secret_hash',
  'previous',
  'created_hlc',
  'joined_hlc',
  'revoked_hlc',
]);

/**
 * Folds events in the order of a log and tells of each what it changed. An event that lost a conflict changed nothing, and
 * one that brings a number or a set-aside peer into play shows that; so both sides are read from the views. Memory is that
 * of the folded state, whatever the length of the history.
 */
export function createChanges(): { readonly version: number; take(event: WrittenEvent): Change } {
  const fold = new Fold();
  return {
    version: FOLD_VERSION,
    take(written) {
      if (written.stream !== 'config') return NOTHING;
      const data = upcast(written.type, written.version, written.data) ?? written.data;
      const before = viewOf(fold, written);
      fold.apply({ ...written, data } as unknown as AnyEvent);
      return differing(before, viewOf(fold, written));
    },
  };
}

function viewOf(fold: Fold, { type, entity }: WrittenEvent): Row | undefined {
  let row: object | undefined;
  if (type.startsWith('license.')) row = fold.license();
  else if (type.startsWith('cluster.')) row = fold.cluster();
  else if (entity.startsWith('rte_')) row = fold.routes.get(entity as RouteKey);
  else if (entity.startsWith('svc_')) row = fold.services.get(entity as ServiceId);
  else if (entity.startsWith('peer_')) row = fold.peers.get(entity as PeerId);
  else if (entity.startsWith('cli_')) row = fold.credentials.get(entity as ClientId);
  return row as Row | undefined;
}

function differing(before: Row | undefined, after: Row | undefined): Change {
  if (before === after) return before === undefined ? NOTHING : { before: {}, after: {} };
  if (before === undefined || after === undefined)
    return { before: shown(before, () => true), after: shown(after, () => true) };
  const other = (key: string): boolean => {
    const a = before[key];
    const b = after[key];
    return a !== b && JSON.stringify(a) !== JSON.stringify(b);
  };
  return { before: shown(before, other), after: shown(after, other) };
}

function shown(row: Row | undefined, wanted: (key: string) => boolean): Row | null {
  if (row === undefined) return null;
  const out: Record<string, unknown> = {};
  for (const key of Object.keys(row))
    if (!HIDDEN.has(key) && row[key] !== undefined && wanted(key)) out[key] = row[key];
  return out;
}
