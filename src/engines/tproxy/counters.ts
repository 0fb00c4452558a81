import type { FlowCounters } from './contract.ts';

/** The counters of one service on one side, as they grow. */
export type Counters = { -readonly [Name in keyof FlowCounters]: number };

export function createCounters(): Counters {
  return { connections: 0, active: 0, bytesIn: 0, bytesOut: 0, refused: 0, failed: 0 };
}
