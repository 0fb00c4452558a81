import type { Hlc, PeerId, RouteKey, ServiceId } from '../../events/brand.ts';
import type { EventData } from '../../events/catalogue.ts';
import type { AnyNewEvent } from '../../events/envelope.ts';
import type { Collection, PeerView, RouteView, ServiceView, Views } from '../../projections/views.ts';

/** Views as they will be once events that are decided on are in the log, for the next decision of the same transaction. */
export interface StagedViews {
  readonly views: Views;
  stage(events: readonly AnyNewEvent[]): void;
}

interface Overlay<K, V> extends Collection<K, V> {
  put(id: K, row: V): void;
  delete(id: K): void;
}

function overlay<K, V extends { readonly id: K }>(base: Collection<K, V>): Overlay<K, V> {
  const changed = new Map<K, V | undefined>();
  let rows: readonly V[] | undefined;
  const list = (): readonly V[] => {
    rows ??= [
      ...base.list().flatMap((row) => (changed.has(row.id) ? (changed.get(row.id) ?? []) : row)),
      ...[...changed].flatMap(([id, row]) => (row === undefined || base.get(id) !== undefined ? [] : row)),
    ];
    return rows;
  };
  return {
    get: (id) => (changed.has(id) ? changed.get(id) : base.get(id)),
    list,
    get size() {
      return list().length;
    },
    put(id, row) {
      changed.set(id, row);
      rows = undefined;
    },
    delete(id) {
      changed.set(id, undefined);
      rows = undefined;
    },
  };
}

/** What a row gets from the log, which has not seen it yet; no decision reads it. */
const UNWRITTEN = { created_at: '', created_hlc: '' as Hlc, version: 0 } as const;

export function stageViews(base: Views): StagedViews {
  const services = overlay<ServiceId, ServiceView>(base.services);
  const peers = overlay<PeerId, PeerView>(base.peers);
  /** Routes of the services whose routes change, by number. */
  const routes = new Map<ServiceId, Map<number, RouteView>>();
  const next = new Map<ServiceId, number>();
  const added = new Map<RouteKey, number>();

  const isLive = (service: ServiceId): boolean => services.get(service) !== undefined;
  const stagedRoutes = (service: ServiceId): Map<number, RouteView> => {
    const staged =
      routes.get(service) ?? new Map(base.routes.ofService(service).map((route) => [route.id, route]));
    routes.set(service, staged);
    return staged;
  };
  const ofService = (service: ServiceId): readonly RouteView[] => {
    if (!isLive(service)) return [];
    const staged = routes.get(service);
    return staged === undefined ? base.routes.ofService(service) : [...staged.values()];
  };
  const nextNumber = (service: ServiceId): number => next.get(service) ?? base.routes.nextNumber(service);
  const byKey = (key: RouteKey): RouteView | undefined => {
    const route = base.routes.get(key);
    if (route !== undefined && isLive(route.service_id))
      return routes.get(route.service_id)?.get(route.id) ?? route;
    return [...routes.values()]
      .map((staged) => staged.get(added.get(key) ?? 0))
      .find((one) => one?.key === key);
  };

  function stageService(id: ServiceId, event: AnyNewEvent): void {
    if (event.type === 'service.created') {
      const { on_failure = 'direct', ...settings } = event.data as EventData['service.created'];
      services.put(id, { ...settings, id, on_failure, updated_at: '', ...UNWRITTEN } as ServiceView);
    } else if (event.type === 'service.updated') {
      const row = services.get(id);
      if (row !== undefined) services.put(id, { ...row, ...(event.data as Partial<ServiceView>) });
    } else services.delete(id);
  }

  function stageRoute(key: RouteKey, event: AnyNewEvent): void {
    const data = event.data as EventData['route.added'];
    const service = data.service_id as ServiceId;
    const staged = stagedRoutes(service);
    if (event.type === 'route.added') {
      const { number, service_id: _, ...rule } = data;
      next.set(service, Math.max(nextNumber(service), number + 1));
      added.set(key, number);
      staged.set(number, { ...UNWRITTEN, key, id: number, service_id: service, ...rule } as RouteView);
      return;
    }
    const row = staged.get(base.routes.get(key)?.id ?? added.get(key) ?? 0);
    if (row === undefined) return;
    if (event.type === 'route.deleted') staged.delete(row.id);
    else staged.set(row.id, { ...row, ...(event.data as Partial<RouteView>) });
  }

  return {
    views: {
      cluster: base.cluster,
      license: base.license,
      credentials: base.credentials,
      peers,
      services,
      routes: {
        get: byKey,
        byNumber: (service, number) => (isLive(service) ? stagedRoutes(service).get(number) : undefined),
        ofService,
        nextNumber,
        get size() {
          return services.list().reduce((sum, { id }) => sum + ofService(id).length, 0);
        },
      },
    },
    stage(events) {
      for (const event of events) {
        const { type, entity } = event;
        if (type.startsWith('service.')) stageService(entity as ServiceId, event);
        else if (type.startsWith('route.')) stageRoute(entity as RouteKey, event);
        else if (type === 'peer.updated') {
          const row = peers.get(entity as PeerId);
          const { version: _, ...settings } = event.data as EventData['peer.updated'];
          if (row !== undefined) peers.put(row.id, { ...row, ...settings });
        } else throw new TypeError(`${type} has no staged form`);
      }
    },
  };
}
