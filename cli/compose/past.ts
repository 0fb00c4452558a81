import { EXIT } from '../../events/errors.ts';
import { Failure } from '../failure.ts';
import { isRow, type Row, show } from '../fields.ts';
import { type ClusterState, readService } from './cluster-state.ts';
import type { PlanRequest, WantedPeer, WantedService } from './plan.ts';

/** Events that a rollback undoes. */
export const UNDONE_TYPES = [
  'service.created',
  'service.updated',
  'service.deleted',
  'route.added',
  'route.updated',
  'route.deleted',
  'peer.updated',
] as const;

/** The newest group of changes: all events of one run or request. */
export interface Group {
  readonly correlationId: string;
  /** The last position before it. */
  readonly before: number;
  /** Ids of the services and peers it touched. */
  readonly touched: ReadonlySet<string>;
  readonly count: number;
}

/** Rows of `GET /v1/events`, newest first; undefined where there is no change to undo. */
export function newestGroup(rows: readonly Row[]): Group | undefined {
  const [newest] = rows;
  if (newest === undefined) return undefined;
  const correlationId = show(newest, 'correlation_id');
  const group = rows.filter((row) => row['correlation_id'] === correlationId);
  return {
    correlationId,
    before: Math.min(...group.map((row) => Number(row['position']))) - 1,
    touched: new Set(group.map(subjectOf)),
    count: group.length,
  };
}

/** The service or peer an event is about; a route belongs to its service. */
function subjectOf(row: Row): string {
  const data = isRow(row['data']) ? row['data'] : {};
  return typeof data['service_id'] === 'string' ? data['service_id'] : show(row, 'entity');
}

const rowsOf = (value: unknown): readonly Row[] => (Array.isArray(value) ? value.filter(isRow) : []);

/**
 * What is wanted when a past state is to stand again: the past of what was touched (undefined: of everything) and the present
 * of the rest. Addresses of peers are not taken back, for hosts move; peers that joined since stay.
 * @param past `state` of `GET /v1/replay`
 * @throws Failure when a service of the past leads to a peer that is gone
 */
export function wantedPast(
  past: Row,
  state: ClusterState,
  touched: ReadonlySet<string> | undefined,
): Pick<PlanRequest, 'peers' | 'services' | 'removable'> {
  const isTouched = (id: string) => touched === undefined || touched.has(id);
  const names = new Map(state.members.map(({ id, name }) => [id, name]));
  const pastPeers = new Map(rowsOf(past['peers']).map((row) => [show(row, 'id'), row]));
  const peers = state.members.map((member): WantedPeer => {
    const { id, name, address, api_access } = member;
    const then = isTouched(id) ? pastPeers.get(id) : undefined;
    if (then === undefined) return { id, name, address, api_access };
    return {
      id,
      name: show(then, 'name'),
      address,
      api_access: then['api_access'] === 'internal' ? 'internal' : 'open',
    };
  });
  const finalNames = new Map(peers.map((peer) => [peer.id ?? '', peer.name]));
  const routes = rowsOf(past['routes']);
  const pastServices = rowsOf(past['services'])
    .filter((row) => isTouched(show(row, 'id')))
    .map((row): WantedService => {
      const own = routes.filter((route) => route['service_id'] === row['id']);
      const service = readService({ ...row, routes: own }, finalNames);
      for (const id of [service.source_peer_id, service.target_peer_id])
        if (!names.has(id))
          throw new Failure(
            EXIT.general,
            `service '${service.name}' cannot be taken back: its peer ${id} is no member of the cluster any more. ` +
              'Nothing was changed.',
          );
      return service;
    });
  const present = state.services
    .filter(({ id }) => !isTouched(id))
    .map(
      (service): WantedService => ({
        ...service,
        source_peer: finalNames.get(service.source_peer_id) ?? service.source_peer,
        target_peer: finalNames.get(service.target_peer_id) ?? service.target_peer,
      }),
    );
  return { peers, services: [...present, ...pastServices], removable: ({ id }) => isTouched(id) };
}
