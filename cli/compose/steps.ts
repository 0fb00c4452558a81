import type { Plan } from './plan.ts';
import {
  type ApiAccess,
  type PeerSpec,
  type RouteSpec,
  SERVICE_FIELDS,
  type ServiceField,
  type ServiceSettings,
  type ServiceSpec,
} from './spec.ts';

/**
 * One thing to do. Peers and services that do not exist yet are named; ids come as they are made. The settings of
 * a peer that joins are a change of the plan made after it has joined.
 */
export type Step =
  | { readonly kind: 'bootstrap'; readonly peer: PeerSpec }
  | { readonly kind: 'join'; readonly peer: PeerSpec }
  | { readonly kind: 'update peer'; readonly peer: string; readonly id: string; readonly body: PeerBody }
  | { readonly kind: 'delete service'; readonly service: string; readonly id: string }
  | {
      readonly kind: 'update service';
      readonly service: string;
      readonly id: string;
      readonly changes: Partial<ServiceSettings>;
    }
  | {
      readonly kind: 'create service';
      readonly service: ServiceSpec;
      /** Those that are made with it; the rest follow. */
      readonly routes: readonly RouteSpec[];
    }
  | {
      readonly kind: 'add routes';
      readonly service: string;
      /** Undefined: of a service created in an earlier transaction of this run. */
      readonly id: string | undefined;
      readonly routes: readonly RouteSpec[];
    }
  | {
      readonly kind: 'update route';
      readonly service: string;
      readonly id: string;
      readonly route: number;
      readonly priority: number;
    }
  | { readonly kind: 'delete route'; readonly service: string; readonly id: string; readonly route: number }
  /** Last of all: afterwards this peer answers nobody but its recovery token. */
  | { readonly kind: 'close api'; readonly peer: string };

export interface PeerBody {
  readonly name?: string;
  readonly address?: string;
  readonly endpoints?: readonly string[];
  readonly api_access?: ApiAccess;
}

/** A request body may not be larger than 1 MiB; a route takes some 120 bytes of it. */
const ROUTES_AT_ONCE = 2_000;

/** Steps that one transaction can make together, in their order. */
export type ChangeStep = Exclude<Step, { readonly kind: 'bootstrap' | 'join' | 'close api' }>;

/** What goes into one request (bytes of JSON) and into one transaction of the log (events), with some room left. */
const MOST_BYTES = 900_000;
const MOST_EVENTS = 9_000;

/** How much of a request and of a transaction a step takes. */
function sizeOf(step: ChangeStep): { readonly bytes: number; readonly events: number } {
  const routes = 'routes' in step ? step.routes.length : 0;
  return { bytes: 1_000 + routes * 140, events: 1 + routes };
}

/**
 * The steps in as few transactions as possible: one, unless the change is larger than a request may be. Routes of a service
 * that is only just made wait for the next one, in which it has an id.
 */
export function transactionsOf(steps: readonly ChangeStep[]): readonly (readonly ChangeStep[])[] {
  const transactions: ChangeStep[][] = [];
  let bytes = 0;
  let events = 0;
  for (const step of steps) {
    const size = sizeOf(step);
    const fits = bytes + size.bytes <= MOST_BYTES && events + size.events <= MOST_EVENTS;
    const waits = step.kind === 'add routes' && step.id === undefined;
    const open = transactions.at(-1);
    if (open === undefined || !fits || waits) {
      transactions.push([step]);
      ({ bytes, events } = size);
      continue;
    }
    open.push(step);
    bytes += size.bytes;
    events += size.events;
  }
  return transactions;
}

/**
 * The plan as steps, in an order in which each is allowed when its turn comes: peers first; then what makes room (services
 * that go, addresses that change hands); then services, each with its routes, new routes before old ones go, so that
 * traffic always has one. Pure.
 * @param host the peer that is asked, whose API has to stay open to the end
 */
export function stepsOf(plan: Plan, host: string): readonly Step[] {
  const { changes } = plan;
  const peers = changes.flatMap((change) => (change.kind === 'peer' ? [change] : []));
  const added = peers.flatMap((change) => (change.action === 'add' ? [change] : []));
  const updated = changes.flatMap((change) =>
    change.kind === 'service' && change.action === 'change' ? [change] : [],
  );
  const closing: Step[] = [];
  const steps: Step[] = [];

  for (const { contact, peer } of added) {
    // It has been bootstrapped before there was anybody to ask.
    if (peer.name === host) continue;
    if (contact.kind === 'bare') steps.push({ kind: 'bootstrap', peer });
    steps.push({ kind: 'join', peer });
  }
  for (const change of peers) {
    if (change.action !== 'change') continue;
    const wanted = (field: string) => change.fields.find((one) => one.field === field)?.after;
    const name = wanted('name');
    const address = wanted('address');
    const finalName = typeof name === 'string' ? name : change.name;
    if (wanted('api_access') === 'internal') closing.push({ kind: 'close api', peer: finalName });
    const body: PeerBody = {
      ...(typeof name === 'string' ? { name } : {}),
      ...(typeof address === 'string'
        ? { address, endpoints: [`${schemeOf(change.member.endpoints)}://${address}`] }
        : {}),
      ...(wanted('api_access') === 'open' ? { api_access: 'open' } : {}),
    };
    if (Object.keys(body).length > 0)
      steps.push({ kind: 'update peer', peer: finalName, id: change.member.id, body });
  }

  for (const change of changes)
    if (change.kind === 'service' && change.action === 'remove')
      steps.push({ kind: 'delete service', service: change.name, id: change.service.id });

  // An address is free for its next holder only when the last one has given it back.
  const released = new Map<string, ServiceField[]>();
  for (const { name, before, fields } of updated)
    for (const field of ['interface_ipv4', 'interface_ipv6'] as const) {
      const moves = fields.some((one) => one.field === field || one.field === 'source_peer');
      if (before[field] === null || !moves || !wantedElsewhere(plan, before.id, before[field])) continue;
      steps.push({ kind: 'update service', service: name, id: before.id, changes: { [field]: null } });
      released.set(before.id, [...(released.get(before.id) ?? []), field]);
    }

  for (const { after, before, fields, routes } of updated) {
    const { id } = before;
    const service = after.name;
    if (fields.length > 0)
      steps.push({
        kind: 'update service',
        service,
        id,
        changes: pick(after, [...fields.map(({ field }) => field), ...(released.get(id) ?? [])]),
      });
    steps.push(
      ...chunks(routes.added).map((part): Step => ({ kind: 'add routes', service, id, routes: part })),
    );
    for (const { before: route, after: wanted } of routes.changed)
      steps.push({ kind: 'update route', service, id, route: route.id, priority: wanted.priority });
    for (const route of routes.removed) steps.push({ kind: 'delete route', service, id, route: route.id });
  }
  for (const change of changes) {
    if (change.kind !== 'service' || change.action !== 'add') continue;
    const { service } = change;
    const [first = [], ...rest] = chunks(service.routes);
    steps.push({ kind: 'create service', service, routes: first });
    for (const routes of rest)
      steps.push({ kind: 'add routes', service: service.name, id: undefined, routes });
  }
  const last = closing.filter((step) => step.kind === 'close api' && step.peer === host);
  return [...steps, ...closing.filter((step) => !last.includes(step)), ...last];
}

const schemeOf = (endpoints: readonly string[]): string =>
  endpoints[0]?.startsWith('https://') === true ? 'https' : 'http';

const addressOf = (cidr: string): string => cidr.slice(0, cidr.indexOf('/'));

function wantedElsewhere(plan: Plan, id: string, cidr: string): boolean {
  return plan.changes.some((change) => {
    if (change.kind !== 'service' || change.action === 'remove') return false;
    if (change.action === 'change' && change.before.id === id) return false;
    const service = change.action === 'add' ? change.service : change.after;
    return [service.interface_ipv4, service.interface_ipv6].some(
      (one) => one !== null && addressOf(one) === addressOf(cidr),
    );
  });
}

const pick = (service: ServiceSettings, fields: readonly ServiceField[]): Partial<ServiceSettings> =>
  Object.fromEntries(
    SERVICE_FIELDS.filter(({ field }) => fields.includes(field)).map(({ field }) => [field, service[field]]),
  );

function chunks<T>(items: readonly T[]): readonly (readonly T[])[] {
  const parts: (readonly T[])[] = [];
  for (let at = 0; at < items.length; at += ROUTES_AT_ONCE) parts.push(items.slice(at, at + ROUTES_AT_ONCE));
  return parts;
}

/** A step in words: what it does, for progress and for the account of a run that ended early. */
export function describeStep(step: Step): string {
  const count = (n: number) => `${n} route${n === 1 ? '' : 's'}`;
  switch (step.kind) {
    case 'bootstrap':
      return `bootstrap ${step.peer.name} (${step.peer.address})`;
    case 'join':
      return `join ${step.peer.name} (${step.peer.address})`;
    case 'update peer':
      return `update peer ${step.peer}`;
    case 'delete service':
      return `delete service ${step.service}`;
    case 'update service':
      return `update service ${step.service}`;
    case 'create service':
      return `create service ${step.service.name} with ${count(step.routes.length)}`;
    case 'add routes':
      return `add ${count(step.routes.length)} to service ${step.service}`;
    case 'update route':
      return `update route ${step.route} of service ${step.service}`;
    case 'delete route':
      return `delete route ${step.route} of service ${step.service}`;
    case 'close api':
      return `close the API of peer ${step.peer} (api_access: internal)`;
  }
}
