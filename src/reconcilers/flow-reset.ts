import type { Position, ServiceId } from '../../events/brand.ts';
import type { Clock } from '../../events/clock.ts';
import type { AnyEvent } from '../../events/envelope.ts';
import { MARK } from '../../projections/desired/contract.ts';
import type { FlowFilter, Kernel } from '../kernel/contract.ts';

export interface FlowResetDeps {
  readonly kernel: Pick<Kernel, 'flows'>;
  readonly clock: Pick<Clock, 'after' | 'monotonic'>;
  /** The mark of a service that this host is the source of, as the engine has it at the time of the event. */
  readonly markOf: (service: ServiceId) => number | undefined;
  /** Position of the log that the firewall stands at, once the kernel is as desired there. */
  readonly appliedPosition: () => Position | null;
  readonly logger: {
    info(fields: object, text: string): void;
    warn(fields: object, text: string): void;
  };
}

export interface FlowReset {
  /** To be told of events in the tick they are appended. */
  follow(events: readonly AnyEvent[]): void;
  stop(): void;
}

/** The accepted sockets of a service: own kind, and the service's number. */
const SOCKET_MASK = 0xffff_ffff;
const SERVICE_BITS = 0x000f_ffff;
/** How often the firewall is asked: a client that is reset connects again at once. */
const ASK_MS = 5;
/** After so long it is said, and asked less often. */
const LATE_MS = 5_000;
const ASK_LATE_MS = 250;

/**
 * Ends connections that somebody asked to be ended, on the host that took them: the engine sees its sockets go and tells the
 * other end. Not before the firewall has followed the same change, however long that takes: the client would come back the old
 * way, and nobody would end that connection.
 */
export function createFlowReset(deps: FlowResetDeps): FlowReset {
  const { kernel, clock, logger } = deps;
  const waiting = new Set<() => void>();

  async function reset(service: ServiceId, filter: FlowFilter): Promise<void> {
    try {
      const count = await kernel.flows.reset(filter);
      logger.info({ service_id: service, connections: count }, 'connections reset');
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      logger.warn({ service_id: service, reason }, 'could not reset connections; they go on until they end');
    }
  }

  function whenApplied(position: Position, service: ServiceId, run: () => void): void {
    const since = clock.monotonic();
    let late = false;
    const ask = (): void => {
      const applied = deps.appliedPosition();
      if (applied !== null && applied >= position) {
        run();
        return;
      }
      if (!late && clock.monotonic() - since > LATE_MS) {
        late = true;
        const text = 'the firewall has not followed yet; connections are reset once it has';
        logger.warn({ service_id: service, position, firewall_position: applied }, text);
      }
      const cancel = clock.after(late ? ASK_LATE_MS : ASK_MS, () => {
        waiting.delete(cancel);
        ask();
      });
      waiting.add(cancel);
    };
    ask();
  }

  return {
    follow(events) {
      for (const event of events) {
        if (event.type !== 'service.flows_reset') continue;
        const service = event.entity as ServiceId;
        const mark = deps.markOf(service);
        if (mark === undefined) continue;
        const filter: FlowFilter = {
          mark: (MARK.own | (mark & SERVICE_BITS)) >>> 0,
          mask: SOCKET_MASK,
          between: event.data.between.map(({ source_cidr, dest_cidr }) => ({
            source: source_cidr,
            destination: dest_cidr,
          })),
        };
        const last = events.at(-1)?.position ?? event.position;
        whenApplied(last, service, () => void reset(service, filter));
      }
    },
    stop() {
      for (const cancel of waiting) cancel();
      waiting.clear();
    },
  };
}
