import type { EventId, Hlc, PeerId, Position } from '../../../events/brand.ts';
import { CATALOGUE, type EventData, type EventType } from '../../../events/catalogue.ts';
import type { AnyEvent } from '../../../events/envelope.ts';
import { Fold } from '../../../projections/fold.ts';

/** A ULID-shaped id for a number: `id('svc', 7)`. */
export const id = (prefix: string, n: number): string =>
  `${prefix}_${n.toString(32).toUpperCase().replaceAll('I', 'W').replaceAll('L', 'X').replaceAll('O', 'Y').replaceAll('U', 'Z').padStart(26, '0')}`;
export const peer = (n: number): PeerId => id('peer', n) as PeerId;
export const hlcAt = (milliseconds: number, counter = 0): Hlc =>
  `${milliseconds.toString(16).padStart(12, '0')}.${counter.toString(16).padStart(4, '0')}` as Hlc;

/** Writes events as several peers would: each origin its own gapless sequence, the clock as told. */
export class History {
  readonly events: AnyEvent[] = [];
  readonly #seq = new Map<string, number>();
  #now = 1_700_000_000_000;
  #count = 0;

  /** Appends one event; `at` overrides the clock (milliseconds). */
  add<T extends EventType>(
    origin: PeerId,
    type: T,
    entity: string,
    data: EventData[T],
    at?: number,
  ): AnyEvent {
    const stream = CATALOGUE[type].stream;
    const seq = (this.#seq.get(`${origin} ${stream}`) ?? 0) + 1;
    this.#seq.set(`${origin} ${stream}`, seq);
    this.#now += 1;
    this.#count += 1;
    const event = {
      id: id('evt', this.#count) as EventId,
      position: this.#count as Position,
      origin,
      stream,
      seq,
      hlc: hlcAt(at ?? this.#now),
      type,
      version: CATALOGUE[type].version,
      entity,
      actor: { kind: 'system', id: null, address: null },
      correlation_id: 'test',
      data,
      prev_hash: '',
      hash: '',
      signature: null,
    } as unknown as AnyEvent;
    this.events.push(event);
    return event;
  }

  /** A member that founded a cluster (`n` = 1) or was admitted by peer 1. */
  member(n: number): PeerId {
    const self = peer(n);
    const address = `10.0.0.${n}:8080`;
    const key = `${'A'.repeat(40)}${String(n).padStart(3, 'A')}=`;
    this.add(self, 'cluster.created', id('clu', n), {
      cluster_id: id('clu', n),
      customer_id: 'cust_test',
      name: null,
      description: null,
    });
    this.add(self, 'peer.registered', self, {
      peer_id: self,
      public_key: key,
      name: `host-${n}`,
      address,
      endpoints: [`http://${address}`],
      api_access: 'open',
      cluster_id: id('clu', n),
      license_id: 'lic_test',
      version: '1.4.0',
    });
    if (n > 1)
      this.add(peer(1), 'peer.admitted', self, {
        peer_id: self,
        public_key: key,
        name: null,
        address,
        endpoints: [`http://${address}`],
      });
    return self;
  }

  license(origin: PeerId, maxNodes: number, issued = '2026-01-01T00:00:00Z', name = 'test'): AnyEvent {
    return this.add(origin, 'license.installed', `lic_${name}`, {
      license: {
        license_id: `lic_${name}`,
        customer_id: 'cust_test',
        issued_at: issued,
        expires_at: '2030-01-01T00:00:00Z',
        max_nodes: maxNodes,
        max_services: 100,
        features: [],
        // Stands for the real one in that it differs whenever the content does.
        signature: `${Buffer.from(`${maxNodes} ${issued} ${name}`).toString('hex').padEnd(86, 'A')}==`,
      },
    });
  }

  service(
    origin: PeerId,
    n: number,
    source: PeerId,
    target: PeerId,
    settings: Partial<EventData['service.created']> = {},
  ): string {
    const entity = id('svc', n);
    this.add(origin, 'service.created', entity, { ...serviceSettings(n, source, target), ...settings });
    return entity;
  }

  route(
    origin: PeerId,
    n: number,
    service: string,
    source: string | null,
    dest: string | null,
    options: { readonly number?: number; readonly priority?: number; readonly at?: number } = {},
  ): string {
    const entity = id('rte', n);
    this.add(
      origin,
      'route.added',
      entity,
      {
        service_id: service,
        number: options.number ?? n,
        priority: options.priority ?? 100,
        source_cidr: source,
        dest_cidr: dest,
      },
      options.at,
    );
    return entity;
  }
}

export const serviceSettings = (n: number, source: PeerId, target: PeerId): EventData['service.created'] => ({
  name: `service-${n}`,
  source_peer_id: source,
  target_peer_id: target,
  transport_type: 'tcp',
  requires_interface: false,
  desired_ipv4_cidr: null,
  desired_ipv6_cidr: null,
  fully_transparent: false,
  bandwidth_limit_mbps: 0,
});

export const foldOf = (events: Iterable<AnyEvent>): Fold => {
  const fold = new Fold();
  for (const event of events) fold.apply(event);
  return fold;
};

/** `given(history => ...).shows(fold => ...)`: projections have no `when`; what is given is what happened. */
export const given = (write: (history: History) => void) => {
  const history = new History();
  write(history);
  return {
    history,
    shows: (check: (fold: Fold) => void): void => check(foldOf(history.events)),
    /** The same, folded in the opposite order: nothing may depend on arrival. */
    showsInAnyOrder: (check: (fold: Fold) => void): void => {
      check(foldOf(history.events));
      check(foldOf([...history.events].reverse()));
    },
  };
};
