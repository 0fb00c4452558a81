import { ulid } from 'ulid';
import type { Cidr, PeerId, ServiceId } from '../../events/brand.ts';
import type { EventData } from '../../events/catalogue.ts';
import type { AnyNewEvent } from '../../events/envelope.ts';
import { ArcticError, type ErrorDetail } from '../../events/errors.ts';
import type { ServiceView, Views } from '../../projections/views.ts';
import { interfaceCidr } from './cidr.ts';
import type { Decision, DecisionContext } from './decision.ts';
import { type FlowEffect, flowEvents } from './flows.ts';
import { requireChangeable } from './gate.ts';
import { isMember } from './peers.ts';

/** What an operator says of a service; what is left out keeps its value, or its default on creation. */
export interface ServiceSettings {
  readonly name?: string;
  readonly source_peer_id?: PeerId;
  readonly target_peer_id?: PeerId;
  readonly transport_type?: 'tcp' | 'kcp' | 'auto';
  readonly requires_interface?: boolean;
  readonly desired_ipv4_cidr?: string | null;
  readonly desired_ipv6_cidr?: string | null;
  readonly fully_transparent?: boolean;
  readonly bandwidth_limit_mbps?: number;
  readonly on_failure?: 'direct' | 'reject';
}

type Settings = EventData['service.created'];
type Update = { -readonly [K in keyof Settings]?: Settings[K] };

/** The kernel's limit for interface names, without the final zero (IFNAMSIZ - 1, linux/if.h). */
const INTERFACE_NAME_LENGTH = 15;
const ID_TRIES = 64;

export const interfaceNameOf = (id: ServiceId): string => id.slice(0, INTERFACE_NAME_LENGTH);

export function decideCreateService(
  views: Views,
  command: ServiceSettings & { readonly target_peer_id: PeerId },
  context: DecisionContext,
): Decision<ServiceId> {
  const license = requireChangeable(views, context);
  if (views.services.size >= license.max_services) {
    throw new ArcticError(
      'SERVICE_LIMIT_EXCEEDED',
      `license ${license.license_id} allows ${license.max_services} services and the cluster has ${views.services.size}; ` +
        'delete one, or install a license that allows more.',
    );
  }
  const id = chooseId(views, context);
  const settings: Settings = {
    name: command.name ?? id,
    source_peer_id: command.source_peer_id ?? context.localPeer,
    target_peer_id: command.target_peer_id,
    transport_type: command.transport_type ?? 'tcp',
    requires_interface: command.requires_interface ?? false,
    desired_ipv4_cidr: canonicalOrNull(command.desired_ipv4_cidr, 'ipv4'),
    desired_ipv6_cidr: canonicalOrNull(command.desired_ipv6_cidr, 'ipv6'),
    fully_transparent: command.fully_transparent ?? false,
    bandwidth_limit_mbps: command.bandwidth_limit_mbps ?? 0,
    // The default is left out, so that agents of before it read the event.
    ...(command.on_failure === 'reject' ? { on_failure: command.on_failure } : {}),
  };
  checkRules(views, id, settings, new Set(['source_peer_id', 'target_peer_id', 'name']));
  return { events: [{ type: 'service.created', entity: id, data: settings }], result: id };
}

/** Only what differs becomes part of the event; the rules hold for the result as a whole. */
export function decideUpdateService(
  views: Views,
  id: ServiceId,
  command: ServiceSettings,
  context: DecisionContext,
  effect: FlowEffect = {},
): Decision<ServiceId> {
  requireChangeable(views, context);
  const service = requireService(views, id);
  const wanted: Update = {
    ...definedOf(command),
    ...(command.desired_ipv4_cidr === undefined
      ? {}
      : { desired_ipv4_cidr: canonicalOrNull(command.desired_ipv4_cidr, 'ipv4') }),
    ...(command.desired_ipv6_cidr === undefined
      ? {}
      : { desired_ipv6_cidr: canonicalOrNull(command.desired_ipv6_cidr, 'ipv6') }),
  };
  const changed = Object.fromEntries(
    Object.entries(wanted).filter(([field, value]) => value !== service[field as keyof Settings]),
  ) as Update;
  const fields = new Set(Object.keys(changed));
  if (fields.size === 0) return { events: [], result: id };
  checkRules(views, id, { ...settingsOf(service), ...changed }, fields);
  const updated: AnyNewEvent = { type: 'service.updated', entity: id, data: changed };
  return { events: [updated, ...flowEvents(id, effect)], result: id };
}

/** Deletes a service with its routes. */
export function decideDeleteService(
  views: Views,
  id: ServiceId,
  context: DecisionContext,
  effect: FlowEffect = {},
): Decision<null> {
  requireChangeable(views, context);
  requireService(views, id);
  // Before the service goes: nothing is told of one that is not there.
  return {
    events: [...flowEvents(id, effect), { type: 'service.deleted', entity: id, data: {} }],
    result: null,
  };
}

export function requireService(views: Views, id: ServiceId): ServiceView {
  const service = views.services.get(id);
  if (service === undefined) {
    throw new ArcticError('NOT_FOUND', `there is no service ${id}; see: arctic services list`);
  }
  return service;
}

/**
 * Interfaces are named by the first 15 characters of the service id, of which all but one are time. So the id is drawn
 * until that name is free in the whole cluster as known here; the reconciler reports what a partition still lets through.
 */
function chooseId(views: Views, context: DecisionContext): ServiceId {
  const taken = new Set(views.services.list().map((service) => interfaceNameOf(service.id)));
  for (let i = 0; i < ID_TRIES; i += 1) {
    const id = `svc_${ulid(context.now, context.fraction)}` as ServiceId;
    if (!taken.has(interfaceNameOf(id))) return id;
  }
  throw new ArcticError('UNAVAILABLE', 'too many services were created in this millisecond; try again.');
}

function checkRules(views: Views, id: ServiceId, settings: Settings, changed: ReadonlySet<string>): void {
  const faults: ErrorDetail[] = [];
  const fault = (field: keyof Settings, message: string) => faults.push({ pointer: `/${field}`, message });

  if (settings.source_peer_id === settings.target_peer_id) {
    fault(
      'target_peer_id',
      `is the source peer itself (${settings.source_peer_id}); a service leads to another peer`,
    );
  }
  for (const field of ['source_peer_id', 'target_peer_id'] as const) {
    if (changed.has(field) && !isMember(views.peers.get(settings[field] as PeerId))) {
      fault(field, `names ${settings[field]}, which is not a member of the cluster; see: arctic peers list`);
    }
  }
  for (const field of ['desired_ipv4_cidr', 'desired_ipv6_cidr'] as const) {
    if (settings[field] === null) continue;
    if (!settings.requires_interface) {
      fault(field, 'needs requires_interface, for it is the address of the interface');
    } else if (changed.has(field) || changed.has('source_peer_id') || changed.has('requires_interface')) {
      const other = sameAddress(views, id, settings, field);
      if (other !== undefined)
        fault(field, `is the address of service ${other.id} (${other.name}) on the same peer already`);
    }
  }
  if (settings.fully_transparent && settings.transport_type !== 'tcp') {
    fault('fully_transparent', 'needs the transport tcp');
  }
  if (settings.fully_transparent && !settings.requires_interface) {
    fault('fully_transparent', 'needs requires_interface');
  }
  const [first] = faults;
  if (first !== undefined) {
    throw new ArcticError('INVALID_REQUEST', `${first.pointer.slice(1)} ${first.message}.`, faults);
  }
  if (changed.has('name')) {
    const other = views.services.list().find((one) => one.id !== id && one.name === settings.name);
    if (other !== undefined) {
      throw new ArcticError(
        'ALREADY_EXISTS',
        `service ${other.id} has the name ${JSON.stringify(settings.name)} already.`,
        [{ pointer: '/name', message: 'is taken' }],
      );
    }
  }
}

const sameAddress = (
  views: Views,
  id: ServiceId,
  settings: Settings,
  field: 'desired_ipv4_cidr' | 'desired_ipv6_cidr',
): ServiceView | undefined => {
  const addressOf = (cidr: string | null) => cidr?.slice(0, cidr.indexOf('/'));
  return views.services
    .list()
    .find(
      (one) =>
        one.id !== id &&
        one.source_peer_id === settings.source_peer_id &&
        one[field] !== null &&
        addressOf(one[field]) === addressOf(settings[field]),
    );
};

const canonicalOrNull = (text: string | null | undefined, family: 'ipv4' | 'ipv6'): Cidr | null =>
  text === null || text === undefined ? null : interfaceCidr(text, family, `/desired_${family}_cidr`);

const definedOf = (command: ServiceSettings): Update =>
  Object.fromEntries(Object.entries(command).filter(([, value]) => value !== undefined));

const settingsOf = (service: ServiceView): Settings => ({
  name: service.name,
  source_peer_id: service.source_peer_id,
  target_peer_id: service.target_peer_id,
  transport_type: service.transport_type,
  requires_interface: service.requires_interface,
  desired_ipv4_cidr: service.desired_ipv4_cidr,
  desired_ipv6_cidr: service.desired_ipv6_cidr,
  fully_transparent: service.fully_transparent,
  bandwidth_limit_mbps: service.bandwidth_limit_mbps,
  on_failure: service.on_failure,
});
