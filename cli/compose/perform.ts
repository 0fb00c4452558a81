import type { Clock } from '../../events/clock.ts';
import { EXIT } from '../../events/errors.ts';
import type { Client } from '../client.ts';
import { Failure, Refusal } from '../failure.ts';
import { asRow, isRow, type Row, show } from '../fields.ts';
import type { ClusterState } from './cluster-state.ts';
import type { Contacts } from './contact.ts';
import type { Lease } from './lease.ts';
import { patiently } from './patience.ts';
import { type PeerSpec, type RouteSpec, SERVICE_FIELDS, type ServiceSettings } from './spec.ts';
import type { ChangeStep, Step } from './steps.ts';

/** Carries out steps through one agent. */
export interface Performer {
  perform(step: Exclude<Step, ChangeStep>): Promise<void>;
  /**
   * Makes all of them in one transaction, or none.
   * @throws Refusal whose details say which one cannot be made (`stepAtFault`)
   */
  performTogether(steps: readonly ChangeStep[]): Promise<void>;
}

/** Index of the change that a transaction was refused for. */
export function stepAtFault(error: unknown): number | undefined {
  const pointer = error instanceof Failure ? error.details[0]?.pointer : undefined;
  const index = /^\/changes\/(\d+)/.exec(pointer ?? '')?.[1];
  return index === undefined ? undefined : Number(index);
}

export interface PerformerOptions {
  readonly runId: string;
  readonly state: ClusterState;
  /** URL of each peer of the file that was asked, by name. */
  readonly bases: ReadonlyMap<string, string>;
  readonly license: () => Promise<Row>;
}

interface PerformerDeps {
  readonly client: Client;
  readonly lease: Lease;
  readonly contacts: Contacts;
  readonly clock: Clock;
  readonly note: (text: string) => void;
}

/**
 * Every change carries the run's id (its correlation in the log), the fence of the lock, and a key under which the agent
 * makes it once however often it is sent; so a change whose answer was lost is sent again until the agent is back.
 */
export function createPerformer(options: PerformerOptions, deps: PerformerDeps): Performer {
  const { runId, state } = options;
  const { client, lease, contacts, clock } = deps;
  const peerIds = new Map(state.members.map(({ id, name }) => [name, id]));
  const serviceIds = new Map(state.services.map(({ id, name }) => [name, id]));
  let sent = 0;

  const send = async (method: 'POST' | 'PUT', path: string, body: unknown): Promise<unknown> => {
    sent += 1;
    const key = `${runId}-${sent}`;
    return patiently(clock, async () => {
      const headers = { ...(await lease.headers()), 'idempotency-key': key };
      return (await client.call(method, path, { headers, body })).body;
    });
  };

  const peerId = (name: string): string => {
    const id = peerIds.get(name);
    if (id === undefined) throw new Failure(EXIT.general, `peer '${name}' is not in the cluster.`);
    return id;
  };
  const serviceId = (name: string): string => {
    const id = serviceIds.get(name);
    if (id === undefined) throw new Failure(EXIT.general, `service '${name}' is not in the cluster.`);
    return id;
  };

  /** Settings as the API names them; peers by id. */
  const serviceBody = (settings: Partial<ServiceSettings>): Row =>
    Object.fromEntries(
      SERVICE_FIELDS.flatMap(({ field, api }) => {
        const value = settings[field];
        if (value === undefined) return [];
        const isPeer = field === 'source_peer' || field === 'target_peer';
        return [[api, isPeer ? peerId(String(value)) : value] as const];
      }),
    );

  const routeBody = ({ priority, source_cidr, dest_cidr }: RouteSpec) => ({
    priority,
    source_cidr,
    dest_cidr,
  });

  async function bootstrap(peer: PeerSpec): Promise<void> {
    const base = options.bases.get(peer.name) ?? `http://${peer.address}`;
    const answer = await contacts.bootstrap(base, await options.license(), peer.name, runId);
    // An answer that was lost, or somebody else was faster; whether it fits shows when it joins.
    if (answer === undefined) deps.note(`Note: '${peer.name}' was bootstrapped already.`);
  }

  async function join(peer: PeerSpec): Promise<void> {
    const known = new Set(peerIds.values());
    try {
      const row = asRow(
        await send('POST', '/v1/peers', { address: peer.address, name: peer.name }),
        'peers add',
      );
      peerIds.set(peer.name, show(row, 'id'));
    } catch (error) {
      if (!(error instanceof Refusal) || error.code !== 'ALREADY_EXISTS') throw error;
      const rows = await client.list('/v1/peers', 'peers');
      const member =
        rows.find((row) => row['name'] === peer.name) ??
        rows.find((row) => row['address'] === peer.address) ??
        rows.find((row) => !known.has(show(row, 'id')));
      if (member === undefined) throw error;
      peerIds.set(peer.name, show(member, 'id'));
    }
  }

  /** A step as `POST /v1/changes` takes it. */
  function changeOf(step: ChangeStep): Row {
    switch (step.kind) {
      case 'update peer':
        // Services that follow may lead to it by its new name.
        peerIds.set(step.peer, step.id);
        return { kind: 'update_peer', id: step.id, ...step.body };
      case 'delete service':
        return { kind: 'delete_service', id: step.id };
      case 'update service':
        return { kind: 'update_service', id: step.id, ...serviceBody(step.changes) };
      case 'create service':
        return {
          kind: 'create_service',
          ...serviceBody(step.service),
          ...(step.routes.length === 0 ? {} : { routes: step.routes.map(routeBody) }),
        };
      case 'add routes': {
        const id = step.id ?? serviceId(step.service);
        return { kind: 'add_routes', service_id: id, routes: step.routes.map(routeBody) };
      }
      case 'update route':
        return { kind: 'update_route', service_id: step.id, id: step.route, priority: step.priority };
      case 'delete route':
        return { kind: 'delete_route', service_id: step.id, id: step.route };
    }
  }

  return {
    async perform(step) {
      switch (step.kind) {
        case 'bootstrap':
          return bootstrap(step.peer);
        case 'join':
          return join(step.peer);
        case 'close api':
          await send('PUT', `/v1/peers/${peerId(step.peer)}`, { api_access: 'internal' });
          return;
      }
    },
    async performTogether(steps) {
      const answer = asRow(await send('POST', '/v1/changes', { changes: steps.map(changeOf) }), 'changes');
      const made = Array.isArray(answer['services']) ? answer['services'].filter(isRow) : [];
      for (const row of made) serviceIds.set(show(row, 'name'), show(row, 'id'));
    },
  };
}
