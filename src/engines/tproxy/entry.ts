/** The entry side: takes a redirected connection, leases a link to the service's peer and opens a flow on it. */
import type { Socket } from 'node:net';
import { constants } from 'node:os';
import type { TproxyService } from './contract.ts';
import type { EngineClock, EngineLogger } from './dependencies.ts';
import { Flow } from './flow.ts';
import type { FlowTable } from './flow-table.ts';
import { type Endpoint, encodeOpen, FRAME } from './frames.ts';
import type { Link } from './link.ts';
import type { LinkPool } from './link-pool.ts';
import type { WarnSeldom } from './rate-limited-log.ts';
import { type ServiceState, updateStates } from './service-state.ts';
import type { Sockets } from './sockets.ts';

/** Bits 20-23 of a mark say how the firewall uses it; the rest names the service (projections MARK). */
const SERVICE_BITS = 0xff0f_ffff;

export interface EntryDependencies {
  readonly clock: EngineClock;
  readonly logger: EngineLogger;
  readonly warnSeldom: WarnSeldom;
  readonly sockets: Sockets;
  readonly flows: FlowTable;
  readonly pool: (peerId: string) => LinkPool;
  /** Port of our own transparent listener, for telling a loop. */
  readonly listenPort: () => number;
}

export interface Entry {
  accept(client: Socket): void;
  configure(services: readonly TproxyService[]): void;
  readonly states: ReadonlyMap<string, ServiceState<TproxyService>>;
  /** Connections that were refused because no service fits. */
  strays(): number;
  /** Resets clients that still wait for a link. */
  stop(): void;
}

export function createEntry(deps: EntryDependencies): Entry {
  const { sockets, clock, logger, flows } = deps;
  const states = new Map<string, ServiceState<TproxyService>>();
  const byMark = new Map<number, ServiceState<TproxyService>>();
  const waiting = new Map<Socket, { readonly serviceId: string; readonly withdraw: () => void }>();
  let strays = 0;

  function refuseStray(client: Socket, mark: number): void {
    strays += 1;
    const address = `${client.remoteAddress}`;
    deps.warnSeldom(
      `stray ${address}`,
      { client: address, mark },
      'connection refused: it was not redirected here for a service',
    );
    sockets.reset(client);
  }

  function accept(client: Socket): void {
    client.on('error', () => undefined);
    let mark: number;
    try {
      mark = sockets.markOf(client);
    } catch {
      client.destroy();
      return;
    }
    const { remoteAddress, remotePort } = client;
    if (remoteAddress === undefined || remotePort === undefined) {
      // It has reset before it was accepted.
      client.destroy();
      return;
    }
    const source = { address: remoteAddress, port: remotePort };
    const state = mark === 0 ? undefined : byMark.get((mark & SERVICE_BITS) >>> 0);
    const destination = sockets.destinationOf(client);
    // Someone who dials the listener itself would be sent round in circles.
    const looped = destination.port === deps.listenPort() && sockets.isLocal(destination.address);
    if (state === undefined || looped) {
      refuseStray(client, mark);
      return;
    }
    if (!flows.hasRoom()) {
      state.counters.refused += 1;
      deps.warnSeldom('full', { flows: flows.size() }, 'connection refused: the flow limit is reached');
      sockets.reset(client);
      return;
    }
    const { service, counters } = state;
    counters.connections += 1;
    counters.active += 1;
    let leftEarly = true;
    const early = (): void => {
      if (!leftEarly) return;
      leftEarly = false;
      counters.active -= 1;
      counters.failed += 1;
      waiting.get(client)?.withdraw();
      waiting.delete(client);
    };
    client.once('close', early);
    const withdraw = deps.pool(service.peerId).lease((link) => {
      waiting.delete(client);
      leftEarly = false;
      client.removeListener('close', early);
      if (link === undefined || client.destroyed) {
        counters.active -= 1;
        counters.failed += 1;
        if (link !== undefined) deps.pool(service.peerId).release(link);
        else noLink(service);
        sockets.reset(client);
        return;
      }
      open(link, client, state, source, destination);
    });
    if (leftEarly) waiting.set(client, { serviceId: service.serviceId, withdraw });
  }

  function noLink(service: TproxyService): void {
    deps.warnSeldom(
      `unreachable ${service.peerId}`,
      { peer: service.peerId, service: service.serviceId },
      'connection reset: no carrier to the peer could be had in time',
    );
  }

  function open(
    link: Link,
    client: Socket,
    state: ServiceState<TproxyService>,
    source: Endpoint,
    destination: Endpoint,
  ): void {
    const { service, counters, bucket } = state;
    link.flow += 1;
    link.send(
      FRAME.open,
      encodeOpen({
        flow: link.flow,
        serviceId: service.serviceId,
        destination,
        source,
      }),
    );
    const flow = new Flow({
      link,
      local: client,
      bucket,
      counters,
      clock,
      reset: (socket) => sockets.reset(socket),
      pendingError: (socket) => sockets.pendingError(socket),
      released: () => {
        flows.unlink(link);
        deps.pool(service.peerId).release(link);
      },
      unreached: () => {
        counters.failed += 1;
      },
      over: () => {
        counters.active -= 1;
        flows.remove(flow);
      },
    });
    flows.add({
      flow,
      link,
      serviceId: service.serviceId,
      peerId: service.peerId,
      side: 'entry',
      client: source,
      destination,
      begunAt: clock.monotonic(),
    });
    client.resume();
    logger.debug(
      { service: service.serviceId, peer: service.peerId, client: source.address, ...destination },
      'flow opened',
    );
  }

  return {
    accept,
    configure(services) {
      const gone = new Set(updateStates(states, services, clock));
      byMark.clear();
      for (const state of states.values()) byMark.set((state.service.mark & SERVICE_BITS) >>> 0, state);
      for (const [client, one] of [...waiting]) if (gone.has(one.serviceId)) sockets.reset(client);
      flows.abort((one) => one.side === 'entry' && gone.has(one.serviceId), constants.errno.ECONNABORTED);
    },
    states,
    strays: () => strays,
    stop() {
      for (const [client, { withdraw }] of [...waiting]) {
        withdraw();
        sockets.reset(client);
      }
    },
  };
}
