import type { FlowView } from './contract.ts';
import type { FlowRecord } from './flow-table.ts';

/** A flow of the TypeScript relay. It keeps no open latency, link history or path; those are the native relay's. */
export function viewOf(
  { flow, serviceId, side, client, destination, begunAt }: FlowRecord,
  now: number,
): FlowView {
  return {
    serviceId,
    side,
    client,
    destination,
    state: flow.connecting ? 'connecting' : flow.closing ? 'closing' : 'open',
    ageMs: now - begunAt,
    bytesIn: flow.bytesIn,
    bytesOut: flow.bytesOut,
    openMs: null,
    reused: false,
    limiterWaits: 0,
    limiterWaitMs: 0,
    path: null,
  };
}
