import { isDeepStrictEqual } from 'node:util';
import type { RouteChanges } from '../../../projections/desired/contract.ts';
import type { TunnelConfig, TunnelPolicy, TunnelSide } from '../../engines/iptun/contract.ts';
import { hostWord } from '../../kernel/nft/expressions.ts';
import { type MapChanges, RouteMaps } from '../firewall/route-maps.ts';
import {
  type DesiredTunnels,
  type EndpointOf,
  exitSides,
  fallbackOf,
  marksOfServices,
  toTunnelConfig,
} from './desired.ts';
import { EntryPolicies } from './entry-policies.ts';

/**
 * The routes as the tunnels need them, in the kernel's maps and in the engine's policies, kept between passes so that a
 * change of one costs what that one costs.
 */
export class TunnelRoutes {
  readonly #desired: () => DesiredTunnels;
  readonly #changes: ((since: number) => RouteChanges) | undefined;
  readonly #policies = new EntryPolicies();
  #exits: { readonly of: DesiredTunnels; readonly sides: ReturnType<typeof exitSides> } | undefined;
  readonly #shown = new Map<string, TunnelPolicy>();
  readonly maps: RouteMaps;

  constructor(desired: () => DesiredTunnels, changes: ((since: number) => RouteChanges) | undefined) {
    this.#desired = desired;
    this.#changes = changes;
    this.maps = new RouteMaps(
      () => new Map(Array.from(marksOfServices(this.#desired()), ([id, mark]) => [id, hostWord(mark)])),
    );
  }

  /** Brings all to what is desired now, and answers what that changed in the maps. */
  follow(): MapChanges {
    const changes = this.maps.follow(this.#desired().firewall, this.#since());
    this.#policies.take(changes);
    return changes;
  }

  /** Whether `follow` would keep the event loop: everything has to be made anew. */
  get isBehind(): boolean {
    return this.maps.needsRebuild(this.#desired().firewall, this.#since());
  }

  /** The same as `follow`, in turns where much has to be made. */
  async prepare(): Promise<void> {
    if (!this.isBehind) {
      this.follow();
      return;
    }
    await this.maps.rebuild(this.#desired().firewall, this.#since()?.revision ?? 0);
    await this.#policies.rebuild(this.maps.maps);
  }

  /** What the engine is told; after `follow`. Policies stay one object while nothing changes. */
  config(endpointOf: EndpointOf): TunnelConfig {
    const desired = this.#desired();
    if (this.#exits?.of.tproxy !== desired.tproxy || this.#exits.of.iptun !== desired.iptun)
      this.#exits = { of: desired, sides: exitSides(desired) };
    const { sides } = this.#exits;
    return toTunnelConfig(
      desired,
      (peer) => {
        const entries = this.#policies.side(
          hostWord(peer.mark),
          desired.firewall.classes,
          fallbackOf(desired, peer),
        );
        return this.#policy(peer.peer_id, entries, sides.get(peer.peer_id) ?? NOTHING);
      },
      endpointOf,
    );
  }

  #policy(peer: string, entries: TunnelSide, exits: TunnelSide): TunnelPolicy {
    const held = this.#shown.get(peer);
    if (
      held !== undefined &&
      held.entries.fallback === entries.fallback &&
      held.entries.classes === entries.classes &&
      (held.exits === exits || isDeepStrictEqual(held.exits, exits))
    )
      return held;
    const policy = { entries, exits };
    this.#shown.set(peer, policy);
    return policy;
  }

  #since(): RouteChanges | undefined {
    return this.#changes?.(this.maps.revision);
  }
}

const NOTHING: TunnelSide = { fallback: null, classes: [] };
