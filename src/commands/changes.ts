import type { PeerId, ServiceId } from '../../events/brand.ts';
import type { AnyNewEvent } from '../../events/envelope.ts';
import { ArcticError } from '../../events/errors.ts';
import type { Views } from '../../projections/views.ts';
import type { Decision, DecisionContext } from './decision.ts';
import { decideUpdatePeer, type UpdatePeerCommand } from './peers.ts';
import { decideAddRoutes, decideDeleteRoute, decideUpdateRoute, type RouteSettings } from './routes.ts';
import {
  decideCreateService,
  decideDeleteService,
  decideUpdateService,
  type ServiceSettings,
} from './services.ts';
import { stageViews } from './staged-views.ts';

/** One of several changes that are made together. */
export type Change =
  | { readonly kind: 'update_peer'; readonly id: PeerId; readonly settings: UpdatePeerCommand }
  | {
      readonly kind: 'create_service';
      readonly settings: ServiceSettings & { readonly target_peer_id: PeerId };
      readonly routes: readonly RouteSettings[];
    }
  | { readonly kind: 'update_service'; readonly id: ServiceId; readonly settings: ServiceSettings }
  | { readonly kind: 'delete_service'; readonly id: ServiceId }
  | { readonly kind: 'add_routes'; readonly service: ServiceId; readonly routes: readonly RouteSettings[] }
  | {
      readonly kind: 'update_route';
      readonly service: ServiceId;
      readonly number: number;
      readonly settings: Partial<RouteSettings>;
    }
  | { readonly kind: 'delete_route'; readonly service: ServiceId; readonly number: number };

/**
 * Several changes in their order as one decision, each seeing what those before it make: all of them, or none. A refusal is
 * that of the first change that cannot be made, with its index in the pointer of every detail (`/changes/3/...`).
 */
export function decideChanges(
  views: Views,
  changes: readonly Change[],
  context: DecisionContext,
): Decision<null> {
  const staged = stageViews(views);
  const events: AnyNewEvent[] = [];
  const take = (decided: readonly AnyNewEvent[]): void => {
    staged.stage(decided);
    events.push(...decided);
  };
  for (const [index, change] of changes.entries()) {
    // Interfaces are named by the time in a service's id, to the millisecond: each gets one of its own.
    const at = { ...context, now: context.now + index };
    try {
      take(decideOne(staged.views, change, change.kind === 'create_service' ? at : context, take));
    } catch (error) {
      throw error instanceof ArcticError ? located(error, index) : error;
    }
  }
  return { events, result: null };
}

/** @param take stages what has to be there for the rest of the same change */
function decideOne(
  views: Views,
  change: Change,
  context: DecisionContext,
  take: (events: readonly AnyNewEvent[]) => void,
): readonly AnyNewEvent[] {
  switch (change.kind) {
    case 'update_peer':
      return decideUpdatePeer(views, change.id, change.settings, context).events;
    case 'create_service': {
      const { events, result } = decideCreateService(views, change.settings, context);
      if (change.routes.length === 0) return events;
      take(events);
      return decideAddRoutes(views, result, change.routes, context).events;
    }
    case 'update_service':
      return decideUpdateService(views, change.id, change.settings, context).events;
    case 'delete_service':
      return decideDeleteService(views, change.id, context).events;
    case 'add_routes':
      return decideAddRoutes(views, change.service, change.routes, context).events;
    case 'update_route':
      return decideUpdateRoute(views, change.service, change.number, change.settings, context).events;
    case 'delete_route':
      return decideDeleteRoute(views, change.service, change.number, context).events;
  }
}

function located(error: ArcticError, index: number): ArcticError {
  const details = error.details.length > 0 ? error.details : [{ pointer: '', message: error.message }];
  return new ArcticError(
    error.code,
    error.message,
    details.map(({ pointer, message }) => ({ pointer: `/changes/${index}${pointer}`, message })),
    { cause: error },
  );
}
