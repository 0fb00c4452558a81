import { setFlagsFromString } from 'node:v8';

/**
 * How much the heap may grow between two full collections, percent. V8 lets a heap grow up to fourfold, for throughput; an
 * agent with 100,000 routes holds 100 MB, and would take 400 of a host that has other work to do. What it costs is collections
 * while many routes are loaded, mostly on other threads.
 */
const GROWTH_PERCENT = 20;

/** Keeps the process near the size of what it holds. V8 reads the flag at each collection. */
export function boundHeapGrowth(): void {
  setFlagsFromString(`--heap-growing-percent=${GROWTH_PERCENT}`);
}
