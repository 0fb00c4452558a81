import { Type } from 'typebox';
import { ArcticError } from '../../events/errors.ts';

const DEFAULT_LIMIT = 100;
const MAX_LIMIT = 1_000;

export const PagingQuery = {
  limit: Type.Optional(
    Type.Integer({
      minimum: 1,
      maximum: MAX_LIMIT,
      description: `Items a page; ${DEFAULT_LIMIT} by default.`,
    }),
  ),
  cursor: Type.Optional(
    Type.String({ maxLength: 200, description: 'The `next_cursor` of the page before.' }),
  ),
};

export interface Paging {
  readonly limit?: number;
  readonly cursor?: string;
}

export const limitOf = (paging: Paging): number => paging.limit ?? DEFAULT_LIMIT;

/** Where an item stands in a list that is ordered by creation. */
export interface Place {
  readonly hlc: string;
  readonly id: string;
}

/**
 * A page of a list that is ordered by creation. The cursor names the last item by place, so a page after it is right
 * also when that item, or any other, is gone by then.
 */
export function pageOf<T>(
  items: readonly T[],
  paging: Paging,
  place: (item: T) => Place,
): { readonly items: readonly T[]; readonly next_cursor: string | null } {
  const start = paging.cursor === undefined ? 0 : startAfter(items, parseCursor(paging.cursor), place);
  const page = items.slice(start, start + limitOf(paging));
  const last = page.at(-1);
  const more = start + page.length < items.length;
  return { items: page, next_cursor: more && last !== undefined ? formatCursor(place(last)) : null };
}

function startAfter<T>(items: readonly T[], after: Place, place: (item: T) => Place): number {
  const same = items.findIndex((item) => place(item).id === after.id);
  if (same !== -1) return same + 1;
  const later = items.findIndex((item) => place(item).hlc > after.hlc);
  return later === -1 ? items.length : later;
}

const formatCursor = ({ hlc, id }: Place): string => Buffer.from(`${hlc} ${id}`).toString('base64url');

function parseCursor(cursor: string): Place {
  const [hlc, id, ...rest] = Buffer.from(cursor, 'base64url').toString('utf8').split(' ');
  if (hlc === undefined || id === undefined || rest.length > 0 || !/^[0-9a-f]{12}\.[0-9a-f]{4}$/.test(hlc)) {
    throw new ArcticError('INVALID_REQUEST', 'the cursor is not one that a page of this list gave.', [
      { pointer: 'querystring/cursor', message: 'is not a cursor' },
    ]);
  }
  return { hlc, id };
}
