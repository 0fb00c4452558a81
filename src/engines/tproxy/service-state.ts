import type { TproxyService } from './contract.ts';
import { type Counters, createCounters } from './counters.ts';
import type { EngineClock } from './dependencies.ts';
import { createTokenBucket, type TokenBucket } from './token-bucket.ts';

/** What outlives a change of configuration: counters and bucket of one service on one side. */
export interface ServiceState<S extends TproxyService> {
  service: S;
  readonly counters: Counters;
  /** Limits what this side reads from its local connections: uploads at the entry, downloads at the exit. */
  readonly bucket: TokenBucket;
}

/** Brings the states in line with the configuration; answers the ids of services that have gone. */
export function updateStates<S extends TproxyService>(
  states: Map<string, ServiceState<S>>,
  services: readonly S[],
  clock: EngineClock,
): readonly string[] {
  const wanted = new Map(services.map((service) => [service.serviceId, service]));
  const gone: string[] = [];
  for (const [id, state] of states) {
    const service = wanted.get(id);
    // A service that moved to another peer is another service as far as its flows are concerned. So is one that is no longer
    // transparent: replies to its open connections have the client's address, and nothing delivers those to us any more.
    const revealed = state.service.fullyTransparent && service?.fullyTransparent === false;
    if (service !== undefined && service.peerId === state.service.peerId && !revealed) continue;
    state.bucket.stop();
    states.delete(id);
    gone.push(id);
  }
  for (const service of services) {
    const state = states.get(service.serviceId);
    if (state === undefined) {
      states.set(service.serviceId, {
        service,
        counters: createCounters(),
        bucket: createTokenBucket(service.limitBitsPerSecond, clock),
      });
      continue;
    }
    if (state.service.limitBitsPerSecond !== service.limitBitsPerSecond) {
      state.bucket.setRate(service.limitBitsPerSecond);
    }
    state.service = service;
  }
  return gone;
}
