import { monotonicFactory } from 'ulid';
import type { ClientId, ClusterId, EventId, LicenseId, PeerId, RouteKey, ServiceId } from './brand.ts';
import type { Clock, Random } from './clock.ts';

/** A source of ULIDs: sortable by time, strictly increasing within one source even when the clock steps back. */
export interface Ids {
  ulid(): string;
}

/** Random bytes are drawn in blocks, because a call per character would cost more than the rest of an append. */
const POOL_BYTES = 256;

export function createIds(deps: { readonly clock: Clock; readonly random: Random }): Ids {
  let pool = new Uint8Array(0);
  let used = 0;
  const next = monotonicFactory(() => {
    if (used >= pool.length) {
      pool = new Uint8Array(deps.random.bytes(POOL_BYTES));
      used = 0;
    }
    const byte = pool[used++] ?? 0;
    return byte / 256;
  });
  return { ulid: () => next(deps.clock.now()) };
}

export const newPeerId = (ids: Ids) => `peer_${ids.ulid()}` as PeerId;
export const newClusterId = (ids: Ids) => `clu_${ids.ulid()}` as ClusterId;
export const newServiceId = (ids: Ids) => `svc_${ids.ulid()}` as ServiceId;
export const newClientId = (ids: Ids) => `cli_${ids.ulid()}` as ClientId;
export const newLicenseId = (ids: Ids) => `lic_${ids.ulid()}` as LicenseId;
export const newEventId = (ids: Ids) => `evt_${ids.ulid()}` as EventId;
export const newRouteKey = (ids: Ids) => `rte_${ids.ulid()}` as RouteKey;
/** Ties the events of one request or one command together. */
export const newCorrelationId = (ids: Ids) => `cor_${ids.ulid()}`;

/** Crockford base 32 without I, L, O, U; the first digit is at most 7, for the time has 48 bits. */
const ULID = '[0-7][0-9A-HJKMNP-TV-Z]{25}';
const guard = <T extends string>(prefix: string) => {
  const pattern = new RegExp(`^${prefix}_${ULID}$`);
  return (text: unknown): text is T => typeof text === 'string' && pattern.test(text);
};

export const isPeerId = guard<PeerId>('peer');
export const isClusterId = guard<ClusterId>('clu');
export const isServiceId = guard<ServiceId>('svc');
export const isClientId = guard<ClientId>('cli');
export const isEventId = guard<EventId>('evt');
export const isRouteKey = guard<RouteKey>('rte');

const parser =
  <T extends string>(is: (text: unknown) => text is T) =>
  (text: unknown): T | undefined =>
    is(text) ? text : undefined;

/** The branded id, or undefined when the text is not one. */
export const parsePeerId = parser(isPeerId);
export const parseClusterId = parser(isClusterId);
export const parseServiceId = parser(isServiceId);
export const parseClientId = parser(isClientId);
export const parseEventId = parser(isEventId);
export const parseRouteKey = parser(isRouteKey);
