/** The exit side: serves the links peers have dialed, and dials destinations the configuration allows them. */
import type { Socket } from 'node:net';
import { constants } from 'node:os';
import type { TproxyExit } from './contract.ts';
import type { EngineClock, EngineLogger } from './dependencies.ts';
import { errnoOf } from './errno.ts';
import { compileExitPolicy, type ExitPolicy } from './exit-policy.ts';
import { DISCARD_BYTES, DISCARD_MS, Flow } from './flow.ts';
import type { FlowTable } from './flow-table.ts';
import {
  decodeOpen,
  decodeReset,
  encodeFlow,
  encodeReset,
  FRAME,
  FrameError,
  type FrameType,
  type Open,
} from './frames.ts';
import type { Link } from './link.ts';
import type { WarnSeldom } from './rate-limited-log.ts';
import { type ServiceState, updateStates } from './service-state.ts';
import type { Sockets } from './sockets.ts';

export interface ExitDependencies {
  readonly clock: EngineClock;
  readonly logger: EngineLogger;
  readonly warnSeldom: WarnSeldom;
  readonly sockets: Sockets;
  readonly flows: FlowTable;
  /** Milliseconds for a connection to the destination. */
  readonly connectTimeout: number;
}

export interface Exit {
  /** A peer's link stands; answers its OPENs from now on. */
  serve(link: Link, peerId: string): void;
  configure(exits: readonly TproxyExit[]): void;
  readonly states: ReadonlyMap<string, ServiceState<TproxyExit>>;
  /** OPENs refused by policy, also for services that do not exist here. */
  refused(): number;
}

export function createExit(deps: ExitDependencies): Exit {
  const { sockets, clock, logger, flows } = deps;
  const states = new Map<string, ServiceState<TproxyExit>>();
  const policies = new Map<string, ExitPolicy>();
  let refusals = 0;

  function serve(link: Link, peerId: string): void {
    link.handlers = {
      frame: (type, payload) => idleFrame(link, peerId, type, payload),
      drained: () => undefined,
    };
  }

  function idleFrame(link: Link, peerId: string, type: FrameType, payload: Buffer): void {
    if (type === FRAME.open) {
      const open = decodeOpen(payload);
      if (open.flow !== link.flow + 1) throw new FrameError(`flow ${open.flow} follows flow ${link.flow}`);
      link.flow = open.flow;
      dial(link, peerId, open);
      return;
    }
    if (type === FRAME.reset && decodeReset(payload).flow === link.flow) return;
    throw new FrameError(`a frame of type ${type} without a flow`);
  }

  function dial(link: Link, peerId: string, open: Open): void {
    const state = states.get(open.serviceId);
    const policy = policies.get(open.serviceId);
    if (state === undefined || policy === undefined || !policy.allows(peerId, open)) {
      refusals += 1;
      if (state !== undefined && state.service.peerId === peerId) state.counters.refused += 1;
      deps.warnSeldom(
        `refused ${peerId}`,
        {
          peer: peerId,
          service: open.serviceId,
          destination: `${open.destination.address} port ${open.destination.port}`,
          source: open.source.address,
        },
        'flow refused: no service and route of this peer allow the destination',
      );
      refuse(link, peerId, constants.errno.EACCES);
      return;
    }
    if (!flows.hasRoom()) {
      state.counters.refused += 1;
      refuse(link, peerId, constants.errno.ENOBUFS);
      return;
    }
    connect(link, peerId, open, state);
  }

  /** Transparently from the client's own port first; when that is taken (bind or connect say so), from another. */
  function dialFrom(open: Open, transparent: boolean, port: number): Socket {
    const { destination, source } = open;
    try {
      return sockets.dialDestination({
        destination,
        source: transparent ? { address: source.address, port } : undefined,
      });
    } catch (error) {
      if (!transparent || port === 0 || !isPortTaken(error)) throw error;
      return dialFrom(open, transparent, 0);
    }
  }

  function connect(link: Link, peerId: string, open: Open, state: ServiceState<TproxyExit>): void {
    const { service, counters, bucket } = state;
    let local: Socket;
    try {
      local = dialFrom(open, service.fullyTransparent, open.source.port);
    } catch (error) {
      counters.failed += 1;
      logger.debug({ err: error, service: service.serviceId }, 'destination cannot be dialed');
      refuse(link, peerId, errnoOf(error));
      return;
    }
    counters.connections += 1;
    counters.active += 1;
    const cancelTimeout = clock.after(deps.connectTimeout, () => {
      if (flow.connecting) flow.sendReset(constants.errno.ETIMEDOUT);
    });
    let connected = false;
    let redialed = false;
    const flow = new Flow({
      link,
      local,
      bucket,
      counters,
      clock,
      reset: (socket) => sockets.reset(socket),
      pendingError: (socket) => sockets.pendingError(socket),
      connected: () => {
        connected = true;
        cancelTimeout();
        link.send(FRAME.opened, encodeFlow(open.flow));
      },
      redial: (error) => {
        if (!service.fullyTransparent || redialed || !isPortTaken(error)) return undefined;
        redialed = true;
        try {
          return dialFrom(open, true, 0);
        } catch {
          return undefined;
        }
      },
      released: () => {
        flows.unlink(link);
        afterFlow(link, peerId);
      },
      over: () => {
        cancelTimeout();
        counters.active -= 1;
        if (!connected) counters.failed += 1;
        flows.remove(flow);
      },
    });
    flows.add({
      flow,
      link,
      serviceId: service.serviceId,
      peerId,
      side: 'exit',
      client: open.source,
      destination: open.destination,
      begunAt: clock.monotonic(),
    });
  }

  /** Answers an OPEN with RESET, and waits for the entry to end its direction. */
  function refuse(link: Link, peerId: string, errno: number): void {
    const number = link.flow;
    link.send(FRAME.reset, encodeReset(number, errno));
    let discarded = 0;
    const cancel = clock.after(DISCARD_MS, () => link.destroy(new Error('the peer sends on after a reset')));
    link.handlers = {
      frame(type, payload) {
        if (type === FRAME.data) {
          discarded += payload.length;
          if (discarded > DISCARD_BYTES) throw new Error('the peer sends on after a reset');
          return;
        }
        if (type !== FRAME.finish && type !== FRAME.reset) {
          throw new FrameError(`a frame of type ${type} inside a flow`);
        }
        if (payload.readUInt32BE(0) !== number) return;
        cancel();
        afterFlow(link, peerId);
      },
      drained: () => undefined,
    };
  }

  function afterFlow(link: Link, peerId: string): void {
    if (link.closed) return;
    if (link.retiring) link.destroy();
    else serve(link, peerId);
  }

  return {
    serve,
    configure(exits) {
      // Compiled first: a malformed CIDR must not leave half a configuration in force.
      const compiled = exits.map((exit) => compileExitPolicy(exit));
      const gone = new Set(updateStates(states, exits, clock));
      policies.clear();
      for (const policy of compiled) policies.set(policy.exit.serviceId, policy);
      flows.abort((one) => one.side === 'exit' && gone.has(one.serviceId), constants.errno.ECONNABORTED);
    },
    states,
    refused: () => refusals,
  };
}

/** EADDRNOTAVAIL is connect's word for a source port that still waits in TIME_WAIT towards this destination. */
function isPortTaken(error: unknown): boolean {
  const code = typeof error === 'object' && error !== null && 'code' in error ? error.code : undefined;
  return code === 'EADDRINUSE' || code === 'EADDRNOTAVAIL';
}
