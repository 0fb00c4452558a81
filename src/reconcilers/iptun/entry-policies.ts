import type { RouteClass } from '../../../projections/desired/contract.ts';
import type { TunnelClass, TunnelSide } from '../../engines/iptun/contract.ts';
import { type PackedChange, PackedRoutes } from '../../engines/iptun/packed-routes.ts';
import type { MapChanges, RouteMap } from '../firewall/route-maps.ts';
import { className } from '../firewall/select.ts';

type ClassHead = Omit<RouteClass, 'routes'>;

/** Routes packed before the event loop gets its turn, some 5 ms. */
const ROUTES_PER_TURN = 2_000;
const ADDRESS_BYTES = { ipv4: 4, ipv6: 16 } as const;

/** The engine's share of the maps of routes: what each tunnel may carry, kept current change by change. */
export class EntryPolicies {
  /** By value in the maps (the tunnel's mark), then by name of the map. */
  #tunnels = new Map<string, Map<string, PackedRoutes>>();
  /** What was shown, until it changes. */
  readonly #shown = new Map<string, { readonly heads: string; readonly classes: readonly TunnelClass[] }>();

  take(changes: MapChanges): void {
    for (const [name, { removed, added }] of changes.maps) {
      const byTunnel = new Map<string, PackedChange[]>();
      const note = (tunnel: string | undefined, change: PackedChange): void => {
        const known = byTunnel.get(tunnel ?? '') ?? [];
        byTunnel.set(tunnel ?? '', known);
        known.push(change);
      };
      for (const { key, data } of removed) note(data, { key, serviceId: null });
      for (const { key, data, route } of added) note(data, { key, serviceId: route.service_id });
      for (const [tunnel, list] of byTunnel) this.#change(tunnel, name, list);
    }
  }

  /** From nothing, without keeping the event loop. */
  async rebuild(maps: ReadonlyMap<string, RouteMap>): Promise<void> {
    this.#tunnels = new Map();
    this.#shown.clear();
    for (const { name, elements } of maps.values()) {
      const all = elements.values();
      for (let done = false; !done; ) {
        const byTunnel = new Map<string, PackedChange[]>();
        for (let taken = 0; taken < ROUTES_PER_TURN; taken += 1) {
          const next = all.next();
          if (next.done === true) {
            done = true;
            break;
          }
          const { key, data = '', route } = next.value;
          const list = byTunnel.get(data) ?? [];
          byTunnel.set(data, list);
          list.push({ key, serviceId: route.service_id });
        }
        for (const [tunnel, list] of byTunnel) this.#change(tunnel, name, list);
        if (!done) await new Promise((resolve) => setImmediate(resolve));
      }
    }
  }

  /** What leads into a tunnel, the classes in the order given. The same object while nothing changes. */
  side(tunnel: string, classes: readonly ClassHead[], fallback: string | null): TunnelSide {
    const held = this.#tunnels.get(tunnel);
    const heads = classes.map(className).join(' ');
    let shown = this.#shown.get(tunnel);
    if (shown?.heads !== heads) {
      const list = classes.flatMap((head): TunnelClass[] => {
        const routes = held?.get(className(head));
        if (routes === undefined) return [];
        const { family, source_length: sourceLength, dest_length: destLength } = head;
        return [{ family, sourceLength, destLength, routes }];
      });
      shown = { heads, classes: list };
      this.#shown.set(tunnel, shown);
    }
    return { fallback, classes: shown.classes };
  }

  #change(tunnel: string, name: string, changes: readonly PackedChange[]): void {
    const classes = this.#tunnels.get(tunnel) ?? new Map<string, PackedRoutes>();
    this.#tunnels.set(tunnel, classes);
    const routes = (classes.get(name) ?? new PackedRoutes(keyLength(name))).with(changes);
    if (routes.length > 0) classes.set(name, routes);
    else classes.delete(name);
    this.#shown.delete(tunnel);
  }
}

/** Bytes of the keys of a map, from its name (`m4_s16_d24`). */
function keyLength(name: string): number {
  const bytes = name.startsWith('m4') ? ADDRESS_BYTES.ipv4 : ADDRESS_BYTES.ipv6;
  return bytes * (name.split('_').length - 1);
}
