import type { Flow } from './flow.ts';
import type { Link } from './link.ts';

export interface FlowRecord {
  readonly flow: Flow;
  readonly link: Link;
  readonly serviceId: string;
  readonly peerId: string;
  readonly side: 'entry' | 'exit';
  readonly client: { readonly address: string; readonly port: number };
  readonly destination: { readonly address: string; readonly port: number };
  /** Milliseconds of the monotonic clock. */
  readonly begunAt: number;
}

/** All flows of the engine, entry and exit; a flow stays until its local connection is closed. */
export interface FlowTable {
  add(record: FlowRecord): void;
  remove(flow: Flow): void;
  /** The flow has let go of its link. */
  unlink(link: Link): void;
  /** The link died: so does the flow on it. */
  linkClosed(link: Link): void;
  /** Resets the flows that `which` picks on both sides. */
  abort(which: (record: FlowRecord) => boolean, errno: number): void;
  /** A flow is using the link. */
  isOn(link: Link): boolean;
  hasRoom(): boolean;
  size(): number;
  all(): Iterable<FlowRecord>;
  /** Resolves when no flow is left or, at the latest, when `timedOut` is called. */
  whenEmpty(): { readonly promise: Promise<void>; readonly timedOut: () => void };
}

export function createFlowTable(most: number): FlowTable {
  const records = new Map<Flow, FlowRecord>();
  const byLink = new Map<Link, Flow>();
  let emptied: (() => void) | undefined;

  return {
    add(record) {
      records.set(record.flow, record);
      byLink.set(record.link, record.flow);
    },
    remove(flow) {
      records.delete(flow);
      if (records.size === 0) emptied?.();
    },
    unlink: (link) => void byLink.delete(link),
    linkClosed(link) {
      const flow = byLink.get(link);
      byLink.delete(link);
      flow?.linkClosed();
    },
    abort(which, errno) {
      for (const record of [...records.values()]) if (which(record)) record.flow.sendReset(errno);
    },
    isOn: (link) => byLink.has(link),
    hasRoom: () => records.size < most,
    size: () => records.size,
    all: () => records.values(),
    whenEmpty() {
      let timedOut: () => void = () => undefined;
      const promise = new Promise<void>((resolve) => {
        timedOut = resolve;
        emptied = resolve;
        if (records.size === 0) resolve();
      });
      return { promise, timedOut };
    },
  };
}
