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
  /** Routes that change, by service and number; undefined: deleted. */
  const routes = new Map<ServiceId, Map<number, RouteView | undefined>>();
  const next = new Map<ServiceId, number>();
  const added = new Map<RouteKey, number>();

  const isLive = (service: ServiceId): boolean => services.get(service) !== undefined;
  const stagedRoutes = (service: ServiceId): Map<number, RouteView | undefined> => {
    const staged = routes.get(service) ?? new Map<number, RouteView | undefined>();
    routes.set(service, staged);
    return staged;
  };
  function* eachOf(service: ServiceId): Iterable<RouteView> {
    if (!isLive(service)) return;
    const staged = routes.get(service);
    for (const route of base.routes.eachOf(service)) if (!staged?.has(route.id)) yield route;
    for (const route of staged?.values() ?? []) if (route !== undefined) yield route;
  }
  const byNumber = (service: ServiceId, number: number): RouteView | undefined => {
    const staged = routes.get(service);
    if (!isLive(service)) return undefined;
    return staged?.has(number) ? staged.get(number) : base.routes.byNumber(service, number);
  };
  const countOf = (service: ServiceId): number => {
    if (!isLive(service)) return 0;
    let count = base.routes.countOf(service);
    for (const [number, route] of routes.get(service) ?? [])
      count += Number(route !== undefined) - Number(base.routes.byNumber(service, number) !== undefined);
    return count;
  };
  const withPrefixes = (
    service: ServiceId,
    source: string | null,
    dest: string | null,
  ): readonly RouteView[] => {
    if (!isLive(service)) return [];
    const staged = routes.get(service);
    return [
      ...base.routes.withPrefixes(service, source, dest).filter(({ id }) => !staged?.has(id)),
      ...[...(staged?.values() ?? [])].filter(
        (route) => route !== undefined && route.source_cidr === source && route.dest_cidr === dest,
      ),
    ].filter((route) => route !== undefined);
  };
  const nextNumber = (service: ServiceId): number => next.get(service) ?? base.routes.nextNumber(service);
  const byKey = (key: RouteKey): RouteView | undefined => {
    const route = base.routes.get(key);
    if (route !== undefined) return byNumber(route.service_id, route.id);
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
    const row = byNumber(service, base.routes.get(key)?.id ?? added.get(key) ?? 0);
    if (row === undefined) return;
    if (event.type === 'route.deleted') staged.set(row.id, undefined);
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
        byNumber,
        numberOf: (key) => added.get(key) ?? base.routes.numberOf(key),
        eachOf,
        ofService: (service) => [...eachOf(service)],
        countOf,
        withPrefixes,
        nextNumber,
        get size() {
          return services.list().reduce((sum, { id }) => sum + countOf(id), 0);
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
